// A cell, opened: what is wrong first, then what was done, the pages, the log, and how to run it again.

function drawCell(data, asked) {
  const cell = data.cells.find((c) => c.side === asked.side);
  const name = data.case;
  if (!cell) return el('div', {class: 'cell-head'}, backLink(), el('h1', {tabindex: -1}, name), el('p', {class: 'warn'}, 'The run has no cell of this case on that kernel.'));
  const record = cell.record;
  const base = cell.side === 0 ? null : data.cells.find((c) => c.side === 0);
  const baseline = base?.record || null;
  const kernel = INDEX.kernels[cell.side];
  return [
    el('div', {class: 'cell-head'},
      el('nav', {'aria-label': 'Way back', class: 'way'}, backLink()),
      el('h1', {tabindex: -1}, el('span', {class: 'dim'}, data.suite + '/' + data.fixture + '/'), name.slice(data.suite.length + data.fixture.length + 2)),
      record ? el('p', {class: 'title'}, record.title) : null,
      drawKernels(data, cell)),
    drawVerdict(cell, kernel, record),
    cell.pair ? drawPair(cell, data, record) : null,
    record ? drawRecord(cell, record, baseline, asked, kernel) : null,
    section('again-cell', 'Run just this again', cell.again.map((c) => [el('p', {class: 'dim'}, c.does), el('pre', {class: 'command'}, c.line)])),
  ];
}

function backLink() {
  return el('a', {href: '#', class: 'back'}, '← All cells');
}

/** The same case on the other kernels. */
function drawKernels(data, cell) {
  return el('nav', {class: 'kernels-of', 'aria-label': 'The same case on each kernel'}, el('ul', {}, data.cells.map((c) =>
    el('li', {}, el('a', {href: cellHash(c.side, data.case), 'aria-current': c.side === cell.side ? 'page' : null, class: c.verdict},
      el('span', {class: 'kernel'}, INDEX.kernels[c.side]), ' ', badge(c.verdict),
      c.side === 0 ? el('small', {}, ' baseline') : c.pair ? el('small', {}, ' ' + PAIRS[c.pair.verdict][1]) : null)))));
}

function placeLink(text, place) {
  if (!place) return text;
  const [key, value] = place;
  return el('button', {type: 'button', class: 'link', on: {click: () => go(key, value)}}, text);
}

function drawVerdict(cell, kernel, record) {
  const said = {
    pass: 'It ran, and every check agreed.', fail: 'It ran, and something broke.', skip: 'It did not run. This says nothing of the kernel.',
    error: (cell.host ? 'The host' : 'The harness') + ' failed. This says nothing of the kernel.',
    unfinished: 'It did not run to its end. This says nothing of the kernel.',
  }[cell.verdict];
  const read = record ? record.pages.read.reduce((n, [pages]) => n + pages, 0) : 0;
  const facts = record ? [
    record.accel.toUpperCase(), where(record), 'contract ' + record.contract,
    plural(record.steps.length, 'operation'), plural(record.checkpoints.length, 'checkpoint'), plural(read, 'page') + ' read', micros(record.took_ms * 1000),
  ] : [];
  return el('section', {class: 'verdict ' + cell.verdict, 'aria-label': 'Verdict'},
    el('p', {class: 'says'}, badge(cell.verdict), ' on ', el('span', {class: 'kernel'}, kernel), '. ', said,
      cell.verdict === 'pass' && read === 0 ? ' No page was read in it.' : ''),
    (cell.kinds || []).length > 0 ? el('p', {class: 'kind'}, cell.kinds.join(', ')) : null,
    (cell.reasons || []).length > 0 ? el('ul', {class: 'reasons'}, cell.reasons.map((r) => el('li', {}, placeLink(r.text, r.place)))) : null,
    cell.missing ? el('p', {class: 'warn'}, 'There are no details: ' + cell.missing) : null,
    record && record.end !== 'finished' && cell.verdict !== 'skip' ? el('p', {class: 'bad-text'}, record.end) : null,
    facts.length > 0 ? el('p', {class: 'dim'}, facts.join(' · ')) : null,
    record && record.repeats ? drawRepeats(record.repeats) : null,
    record && (record.known || []).length > 0 ? folded(plural(record.known.length, 'known failure') + ' of this kernel', false,
      el('ul', {}, record.known.map((k) => el('li', {}, knownWords(k.what), el('span', {class: 'dim'}, ': ' + k.reason + (k.sometimes ? ' (not always)' : '')))))) : null);
}

function where(record) {
  if (record.booted_in) return 'booted in run ' + record.booted_in + ', and kept';
  return record.isolation === 'clone' ? 'in a clone of a booted machine' : 'in a boot of its own';
}

function knownWords(what) {
  switch (what.kind) {
    case 'test': return 'test ' + what.name;
    case 'report': return what.title;
    case 'outcome': return what.op + ' gives ' + what.gives;
    case 'end': return 'the guest ' + what.how;
    default: return `at “${what.checkpoint}”: ${what.what} ${what.found} instead of ${what.expected}`;
  }
}

function drawRepeats(repeats) {
  const failed = (list) => el('ul', {}, list.map((f) => el('li', {}, `run ${f.run}` + (f.seed !== undefined ? `, seed ${f.seed}` : '') + ': ' + f.reason)));
  return [
    el('p', {}, `It ran ${plural(repeats.runs, 'time')}; ${repeats.failed.length} did not pass` + (repeats.tolerated ? ', and passed when tried again' : '') + '. The details are of the first that did not pass, or of the last.'),
    repeats.failed.length > 0 ? failed(repeats.failed) : null,
    (repeats.otherwise || []).length > 0 ? [el('p', {}, 'Passed, and were observed otherwise:'), failed(repeats.otherwise)] : null,
  ];
}

function drawPair(cell, data, record) {
  const [sign, word] = PAIRS[cell.pair.verdict];
  const real = cell.pair.differences.filter((d) => d.kind !== 'log-line');
  return section('against', 'Against ' + INDEX.kernels[0],
    el('p', {}, el('b', {class: 'pair-' + (cell.pair.verdict || 'none')}, sign + ' ' + word), el('span', {class: 'dim'},
      {accepted: '. Both sides read as their accepted snapshots.', 'not as accepted': '. One side is not as its accepted snapshot.', 'no snapshot': '. One side has no accepted snapshot.'}[cell.pair.accepted])),
    real.length > 0 ? el('ul', {class: 'differences'}, real.map((d) => el('li', {}, el('span', {class: 'dim'}, d.at ? 'at ' + d.at + ': ' : ''), placeLink(d.text, d.place)))) : null,
    el('p', {}, el('a', {href: cellHash(0, data.case)}, 'The baseline’s cell')));
}

function drawRecord(cell, record, baseline, asked, kernel) {
  const out = [];
  const ran = record.steps.length > 0;
  if (ran) {
    out.push(section('timeline', 'What was done', drawCounts(record), drawSteps(record, baseline, asked.step)));
  }
  if (record.checkpoints.length > 0) out.push(drawPicture(record, baseline, asked, cell.verdict === 'fail' || cell.pair?.verdict === 'regressed'));
  if (record.hang) out.push(drawHang(record.hang));
  const results = record.results || [];
  if (results.length > 0) out.push(drawResults(results));
  if (record.log.total > 0) {
    const reports = record.log.reports;
    out.push(section('log', 'Kernel log',
      reports.length > 0 ? el('div', {class: 'reports'}, reports.map((r, n) => drawReport(record, r, n))) : el('p', {class: 'dim'}, 'It reports no trouble of its own.'),
      record.log.more_reports ? el('p', {class: 'note'}, plural(record.log.more_reports, 'more report') + ' in console.log') : null,
      ownLines(record) === 0 && !(baseline && ownLines(baseline) > 0) ? el('p', {class: 'dim'}, 'Nothing else was printed.')
        : folded(plural(ownLines(record), 'line') + (baseline ? `, beside the ${ownLines(baseline)} of the baseline; + marks lines that the other side has nothing like` : ''), ownLines(record) < 60,
          drawLog(record, baseline, [INDEX.kernels[0], kernel]))));
  }
  const counters = drawCounters(record);
  if (counters) out.push(counters);
  if ((record.left_out || []).length > 0) out.push(el('p', {class: 'note'}, 'Left out of this report: ' + record.left_out.join(', ') + '.'));
  return out;
}

function drawPicture(record, baseline, asked, differs) {
  const holder = el('div', {class: 'pictures'});
  const fields = el('div', {'aria-live': 'polite'});
  let metric = 'refcount';
  const first = firstWrong(record, asked.checkpoint);
  let pressed = null;
  const pick = (of) => (region, column, n, button) => {
    pressed?.classList.remove('picked');
    button.classList.add('picked');
    pressed = button;
    fields.replaceChildren(drawFields(of, region, column, n) || '');
  };
  const draw = () => {
    holder.replaceChildren();
    append(holder, [drawPages(record, metric, asked.checkpoint, pick(record), '', first), fields,
      baseline && baseline.checkpoints.length > 0 ? folded(`The same on ${INDEX.kernels[0]} (baseline)`, differs, drawPages(baseline, metric, asked.checkpoint, pick(baseline), ' on the baseline', null)) : null]);
    pressed = holder.querySelector('.picked');
  };
  draw();
  if (first) fields.replaceChildren(drawFields(record, ...first));
  return section('pages', 'Pages',
    el('label', {class: 'metric'}, 'Show ', el('select', {on: {change: (event) => { metric = event.target.value; draw(); }}},
      Object.entries(METRICS).map(([key, word]) => el('option', {value: key}, word)))),
    drawLegend(), holder);
}

/** The pages to look at first: the first that are not as predicted, at the checkpoint that is asked for. */
function firstWrong(record, checkpoint) {
  for (const onlyAsked of [true, false]) {
    for (let n = 0; n < record.checkpoints.length; n++) {
      if (onlyAsked && record.checkpoints[n].name !== checkpoint) continue;
      for (const region of record.pages.regions) {
        const column = region.columns.find((c) => c.states[n] >= 0 && isWrong(record.pages.states[c.states[n]]));
        if (column) return [region, column, n];
      }
    }
  }
  return null;
}

function drawResults(results) {
  const sign = {pass: '✓', fail: '✗', skip: '○', missing: '!'};
  const bad = results.filter((r) => r.status === 'fail' || r.status === 'missing');
  const rest = results.filter((r) => r.status !== 'fail' && r.status !== 'missing');
  const list = (of) => el('ul', {class: 'results'}, of.map((r) => el('li', {class: r.status}, `${sign[r.status]} ${r.status} ${r.name}`, r.message ? el('span', {class: 'dim'}, ': ' + r.message) : null)));
  return section('results', 'Results of programs', bad.length > 0 ? list(bad) : null, folded(plural(rest.length, 'other'), bad.length === 0 && rest.length < 60, list(rest)));
}

function drawCounters(record) {
  const at = Object.entries(record.counters.at);
  const around = Object.entries(record.counters.around);
  if (at.length === 0 && around.length === 0 && !record.counters.problem) return null;
  const value = (n) => n === null || n === undefined ? '–' : thousands(n);
  return section('counters', 'Counters of the kernel',
    record.counters.problem ? el('p', {class: 'bad-text'}, record.counters.problem) : null,
    at.length > 0 ? folded('/proc/vmstat at the checkpoints, where it changes', false, el('div', {class: 'scroll', tabindex: 0, role: 'region', 'aria-label': 'Counters at the checkpoints'}, el('table', {class: 'numbers'},
      el('thead', {}, el('tr', {}, el('th', {scope: 'col'}, 'counter'), record.checkpoints.map((c) => el('th', {scope: 'col'}, c.name)))),
      el('tbody', {}, at.map(([name, values]) => el('tr', {}, el('th', {scope: 'row'}, name), values.map((v) => el('td', {}, value(v))))))))) : null,
    around.length > 0 ? folded('before the case, and when its processes were gone, where it changes', false, el('div', {class: 'scroll', tabindex: 0, role: 'region', 'aria-label': 'Counters around the case'}, el('table', {class: 'numbers'},
      el('thead', {}, el('tr', {}, ['counter', 'before', 'after'].map((t) => el('th', {scope: 'col'}, t)))),
      el('tbody', {}, around.map(([name, [before, after]]) => el('tr', {}, el('th', {scope: 'row'}, name), el('td', {}, value(before)), el('td', {}, value(after)))))))) : null);
}
