// The kernel's log by step, its reports folded, the baseline's beside it.

function framePlace(frame) {
  return frame.at && frame.at.length > 0 ? frame.at : null;
}

function drawFrames(trace) {
  return el('ol', {class: 'trace'}, trace.map((frame) => {
    const place = framePlace(frame);
    const name = (frame.uncertain ? '? ' : '') + frame.function + '+' + hex(frame.offset) + (frame.module ? ' [' + frame.module + ']' : '');
    if (!place) return el('li', {}, el('code', {}, name));
    const outer = place[place.length - 1];
    return [
      place.slice(0, -1).map((p) => el('li', {class: 'inlined'}, el('code', {}, p.function), el('span', {class: 'dim'}, ' inlined '), el('code', {class: 'place'}, p.file + ':' + p.line))),
      el('li', {}, el('code', {}, name), ' ', el('code', {class: 'place'}, outer.file + ':' + outer.line)),
    ];
  }));
}

function drawReport(record, report, n) {
  const who = [report.task ? `task ${report.task.comm}/${report.task.pid}` : null, report.cpu !== null && report.cpu !== undefined ? 'cpu ' + report.cpu : null,
    report.step !== null && report.step !== undefined ? `step ${report.step} ${record.steps[report.step]?.word || ''}` : 'before the first step'].filter(Boolean);
  const registers = Object.entries(report.registers || {});
  return el('details', {class: 'report' + (report.expected ? '' : ' bad'), id: 'report-' + n, open: !report.expected},
    el('summary', {}, el('b', {}, '⚑ ' + report.title), el('span', {class: 'dim'}, report.expected ? ' expected here' : ' not expected', report.cut ? ', cut off' : '')),
    el('p', {class: 'dim'}, who.join(', ')),
    report.page ? [el('p', {}, 'page dumped because: ' + report.page.reason), el('p', {class: 'mono'}, Object.entries(report.page.fields).map(([k, v]) => k + ' ' + v).join(', '))] : null,
    report.trace && report.trace.length > 0 ? drawFrames(report.trace) : el('p', {class: 'dim'}, 'no call trace'),
    registers.length > 0 ? folded('registers', false, el('p', {class: 'mono'}, registers.map(([k, v]) => k + ' ' + v).join('  '))) : null,
    folded('as it was printed, ' + plural(report.own.length, 'line'), false, el('pre', {}, report.own.map((i) => record.log.lines[i] ? lineText(record.log.lines[i]) : '').join('\n'))));
}

function lineTime(us) {
  return us === null || us === undefined ? '' : '[' + (us / 1000000).toFixed(6).padStart(12) + '] ';
}

function lineText([us, , caller, text]) {
  return lineTime(us) + (caller ? '[' + caller + '] ' : '') + text;
}

/** The agent marks each step in the log; here they are the headings. */
function isMark(line) {
  return /^zonedev: step \d+$/.test(line[3]);
}

/** How many lines the kernel itself printed. */
function ownLines(record) {
  return record.log.total - Object.values(record.log.lines).filter(isMark).length;
}

/** Lines by step: null is before the first. Lines of a report are folded behind its title. */
function linesBySteps(record) {
  const inReport = new Map();
  record.log.reports.forEach((r, n) => r.own.forEach((i) => inReport.set(i, n)));
  const out = new Map();
  let before = -1;
  for (const [index, line] of Object.entries(record.log.lines)) {
    const i = Number(index);
    const gap = i - before - 1;
    before = i;
    if (gap === 0 && isMark(line)) continue;
    const step = line[1] === null ? -1 : line[1];
    if (!out.has(step)) out.set(step, []);
    const of = out.get(step);
    if (gap > 0) of.push({gap});
    const report = inReport.get(i);
    if (report === undefined) of.push({i, line});
    else if (of.length === 0 || of[of.length - 1].report !== report) of.push({report});
  }
  if (record.log.total > before + 1) out.set(Infinity, [{gap: record.log.total - before - 1}]);
  return out;
}

function drawLines(record, items, others) {
  if (!items) return el('p', {class: 'dim'}, 'nothing');
  return el('ol', {class: 'log'}, items.map((item) => {
    if (item.gap) return el('li', {class: 'dim'}, '… ' + plural(item.gap, 'line') + ' left out; console.log in the run’s folder has them');
    if (item.report !== undefined) {
      const report = record.log.reports[item.report];
      return el('li', {class: report.expected ? 'in-report' : 'in-report bad-text'}, '⚑ ' + report.title + ' …');
    }
    const fresh = others && !others.has(item.line[4]);
    return el('li', {id: 'line-' + item.i + (others === undefined ? '-baseline' : ''), class: fresh ? 'fresh' : ''}, fresh ? el('b', {class: 'mark', title: 'no such line on the other side'}, '+ ') : null, lineText(item.line));
  }));
}

/** The whole log; with a baseline, two columns that meet at each step. */
function drawLog(record, baseline, names) {
  const kinds = (of) => new Set(Object.values(of.log.lines).map((line) => line[4]));
  const mine = linesBySteps(record);
  const theirs = baseline ? linesBySteps(baseline) : new Map();
  const mineKinds = kinds(record);
  const theirKinds = baseline ? kinds(baseline) : null;
  const steps = [...new Set([...mine.keys(), ...theirs.keys()])].sort((a, b) => a - b);
  if (steps.length === 0) return el('p', {class: 'dim'}, 'The kernel printed nothing.');
  return el('div', {class: 'logs' + (baseline ? ' two' : '')},
    baseline ? [el('p', {class: 'side kernel'}, names[0] + ' (baseline)'), el('p', {class: 'side kernel'}, names[1])] : null,
    steps.map((step) => {
      const word = step === -1 ? 'before the first step' : step === Infinity ? 'at the end' : `step ${step} ${record.steps[step]?.word || baseline?.steps[step]?.word || ''} ${record.steps[step]?.words || ''}`;
      return [
        el('h3', {class: 'step'}, word),
        baseline ? el('div', {class: 'column'}, el('span', {class: 'sr'}, names[0]), drawLines(baseline, theirs.get(step), mineKinds)) : null,
        el('div', {class: 'column'}, el('span', {class: 'sr'}, names[1]), drawLines(record, mine.get(step), baseline ? theirKinds : null)),
      ];
    }));
}

function drawHang(hang) {
  return section('hang', 'Where it hung',
    hang.standing ? el('p', {}, 'The agent was heard of last while it was here: ', el('code', {}, JSON.stringify(hang.standing))) : null,
    el('ul', {}, hang.rungs.map((r) => el('li', {}, el('b', {}, r.what), ': ', r.answered ? '' : 'nothing: ', r.gave))),
    (hang.tasks || []).map((t) => [el('p', {}, el('b', {}, `${t.task.comm}/${t.task.pid}`), ' in state ' + t.state), drawFrames(t.trace)]),
    (hang.processors || []).map((p, n) => el('p', {}, `cpu ${n} ${p}`)));
}
