// Operations and checkpoints in their order, with the counts over them.

/** How a step went: `ok`, `expected` (refused, as it should be), `wrong`, or `none` where it did not run. */
function stepClass(step) {
  if (!step.gives) return 'none';
  if (step.expected && step.expected !== step.gives) return 'wrong';
  return step.gives === 'ok' ? 'ok' : 'expected';
}

/** Values over the checkpoints as lines over the steps. */
function drawCounts(record) {
  const at = record.checkpoints;
  const steps = record.steps.length;
  if (at.length === 0 || record.pages.watched === 0) return null;
  const sums = record.pages.sums;
  const lines = [
    ['read', 'references read', sums.map((s) => s.refcount)],
    ['predicted', 'predicted', sums.map((s) => s.predicted)],
    ['mapped', 'mappings read', sums.map((s) => s.mapcount)],
  ];
  const width = 1000, height = 170, left = 8, top = 26, bottom = 26;
  const most = Math.max(1, ...lines.flatMap(([, , values]) => values));
  const least = Math.min(0, ...lines.flatMap(([, , values]) => values));
  const x = (step) => left + (width - 2 * left) * (step + 0.5) / Math.max(1, steps);
  const y = (value) => top + (height - top - bottom) * (1 - (value - least) / (most - least));
  const out = svg('svg', {class: 'counts', viewBox: `0 0 ${width} ${height}`, role: 'img', 'aria-labelledby': 'counts-title'},
    svg('title', {id: 'counts-title'}, 'Sums over the watched pages by checkpoint; the table below has the same numbers'));
  out.append(svg('line', {x1: 0, x2: width, y1: y(0), y2: y(0), class: 'axis'}));
  record.steps.forEach((step, n) => {
    const checkpoint = at.some((c) => c.step === n);
    if (!checkpoint) out.append(svg('circle', {cx: x(n), cy: height - bottom + 8, r: 4, class: 'op ' + stepClass(step)}, svg('title', {}, n + ' ' + step.word)));
  });
  at.forEach((c) => {
    out.append(svg('line', {x1: x(c.step), x2: x(c.step), y1: top - 6, y2: height - bottom + 8, class: 'checkpoint'}));
    const cx = x(c.step), cy = height - bottom + 8;
    out.append(svg('path', {d: `M${cx - 6} ${cy}L${cx} ${cy - 6}L${cx + 6} ${cy}L${cx} ${cy + 6}Z`, class: 'diamond'}, svg('title', {}, c.name)));
  });
  for (const [name, , values] of lines) {
    let d = '';
    values.forEach((value, i) => {
      // A count holds from its checkpoint to the next.
      d += (i === 0 ? 'M' : 'L') + x(at[i].step) + ' ' + y(i === 0 ? value : values[i - 1]);
      d += 'L' + x(at[i].step) + ' ' + y(value);
    });
    out.append(svg('path', {d: d + 'L' + (width - left) + ' ' + y(values[values.length - 1]), class: 'line ' + name}));
    values.forEach((value, i) => out.append(svg('circle', {cx: x(at[i].step), cy: y(value), r: 3.5, class: 'dot ' + name})));
    if (name === 'read') {
      values.forEach((value, i) => {
        const wrong = value !== sums[i].predicted;
        const late = x(at[i].step) > width - 120;
        out.append(svg('text', {x: x(at[i].step) + (late ? -7 : 7), y: y(value) - 7, 'text-anchor': late ? 'end' : 'start', class: wrong ? 'wrong' : ''}, wrong ? `${thousands(value)} ≠ ${thousands(sums[i].predicted)}` : thousands(value)));
      });
    }
  }
  const legend = el('p', {class: 'legend'}, lines.map(([name, words]) =>
    el('span', {}, svg('svg', {width: 28, height: 10, 'aria-hidden': 'true'}, svg('line', {x1: 0, x2: 28, y1: 5, y2: 5, class: 'line ' + name})), ' ' + words)),
    el('span', {class: 'dim'}, 'summed over ' + plural(record.pages.watched, 'page') + ' that something held, or that changed; 0 to ' + thousands(most)));
  return el('figure', {class: 'chart'}, el('div', {class: 'scroll', tabindex: 0, role: 'region', 'aria-label': 'Counts over the operations'}, out), legend);
}

/** The counts of a checkpoint in words: by region, pages at each refcount. */
function countWords(record, n) {
  const there = record.pages.regions.filter((r) => r.counts[n].length > 0);
  const busy = there.filter((r) => !r.quiet);
  return (busy.length > 0 ? busy : there).map((region) =>
    el('span', {class: 'count'}, el('span', {class: 'dim'}, region.name + ' '),
      region.counts[n].map(([refcount, pages, wrong]) => [
        el('span', {class: 'chip ' + colour(refcount)}, refcount), ' × ' + thousands(pages),
        wrong > 0 ? el('b', {class: 'bad-text'}, ` (${thousands(wrong)} not as predicted)`) : null, ' ',
      ])));
}

function drawSteps(record, baseline, focusStep) {
  const longest = Math.max(1, ...record.steps.map((s) => s.took_us || 0));
  const rows = [];
  record.steps.forEach((step, n) => {
    const checkpoint = record.checkpoints.findIndex((c) => c.step === n);
    const how = stepClass(step);
    const other = baseline?.steps[n];
    const differs = other && other.word === step.word && other.gives !== step.gives;
    const reports = record.log.reports.filter((r) => r.step === n);
    const time = step.took_us === undefined ? null : svg('svg', {class: 'took', viewBox: '0 0 100 8', preserveAspectRatio: 'none', 'aria-hidden': 'true'},
      svg('rect', {x: 0, y: 0, width: Math.max(1, 100 * step.took_us / longest), height: 8}));
    let result;
    if (checkpoint >= 0) {
      result = drawCheckpoint(record, checkpoint);
    } else {
      result = [
        el('span', {class: 'gives ' + how}, {ok: '✓ ', expected: '✓ ', wrong: '✗ ', none: '– '}[how] + (step.gives || 'did not run')),
        step.detail ? el('span', {class: 'dim'}, ' ' + step.detail) : null,
        how === 'expected' ? el('span', {class: 'dim'}, ', as expected') : null,
        how === 'wrong' ? el('b', {class: 'bad-text'}, ' expected ' + step.expected) : null,
        differs ? el('b', {class: 'change-text'}, ' baseline ' + (other.gives || 'did not run')) : null,
      ];
    }
    rows.push(el('tr', {id: 'step-' + n, tabindex: -1, class: (checkpoint >= 0 ? 'checkpoint ' : '') + (record.ended_at === n ? 'ended' : '') + (focusStep === n ? ' asked' : '')},
      el('th', {scope: 'row'}, n),
      el('td', {class: 'op'}, checkpoint >= 0 ? [el('b', {}, '◆ ' + step.word + ' '), el('span', {}, record.checkpoints[checkpoint].name)] : [el('b', {}, step.word), ' ', el('span', {class: 'words'}, step.words)],
        step.actor !== 'main' ? el('span', {class: 'tag'}, step.actor) : null,
        step.arms ? el('ul', {class: 'arms'}, step.arms.map((arm) => el('li', {}, arm))) : null,
        step.facts ? el('p', {class: 'dim fact-words'}, step.facts.join('; ')) : null),
      el('td', {class: 'result'}, result,
        record.ended_at === n ? el('p', {class: 'bad-text'}, '✗ ' + record.end) : null,
        reports.map((r) => el('p', {}, el('a', {href: '#report-' + record.log.reports.indexOf(r), class: r.expected ? '' : 'bad-text'}, '⚑ ' + r.title), r.expected ? el('span', {class: 'dim'}, ' expected') : null)),
        step.output ? folded('output, exit code ' + step.output.code + (step.output.cut ? ', cut' : ''), false, el('pre', {}, step.output.text)) : null),
      el('td', {class: 'time'}, step.took_us === undefined ? '' : micros(step.took_us), time)));
  });
  return el('div', {class: 'scroll', tabindex: 0, role: 'region', 'aria-label': 'Operations'}, el('table', {class: 'steps'},
    el('thead', {}, el('tr', {}, ['step', 'operation', 'gives', 'guest time'].map((t) => el('th', {scope: 'col'}, t)))),
    el('tbody', {}, rows)));
}

function drawCheckpoint(record, n) {
  const c = record.checkpoints[n];
  const [read, predicted] = record.pages.read[n];
  return [
    el('p', {}, countWords(record, n)),
    el('p', {class: 'dim'}, plural(read, 'page') + ' read in ' + micros(c.read_us) + ', ',
      read === predicted ? 'all predicted' : el('b', {class: 'bad-text'}, thousands(predicted) + ' predicted'),
      c.rereads ? '; read ' + plural(c.rereads, 'time') + ' more until they agreed or stayed' : ''),
    c.unpredicted ? el('p', {class: 'warn'}, 'Nothing is predicted: ' + c.unpredicted) : null,
    (c.problems || []).map((p) => el('p', {class: 'bad-text'}, 'not read: ' + p)),
    (c.mismatches || []).map((p) => el('p', {class: 'bad-text'}, p)),
  ];
}
