// The pages of a region as a picture: pages across, checkpoints down, the count as text and colour,
// what was read over what was predicted.

/** The colour of a count. */
function colour(n) {
  if (n < 0) return 'c-neg';
  if (n <= 3) return 'c' + n;
  if (n < 16) return 'c4';
  if (n < 512) return 'c5';
  return n < 1024 ? 'c6' : 'c7';
}

const METRICS = {
  refcount: 'refcount', mapcount: 'mapcount', pincount: 'pincount', folio: 'folio', mapping: 'mapping', flags: 'flags',
};

/** A field's value as it is shown in the picture. */
function fieldText(fields, metric) {
  if (!fields) return '?';
  switch (metric) {
    case 'mapcount': return String(fields.large_mapcount ?? fields.mapcount);
    case 'pincount': return String(fields.pincount ?? '–');
    case 'folio': return (fields.folio || '–').replace('a single page', 'single').replace('a head of order ', 'head/').replace('a tail of order ', 'tail/');
    case 'mapping': return fields.mapping === undefined ? '–' : fields.mapping ? 'set' : 'NULL';
    case 'flags': return fields.flags || '–';
    default: return String(fields.refcount);
  }
}

function fieldColour(fields, metric) {
  if (!fields) return 'c-none';
  switch (metric) {
    case 'mapcount': return colour(fields.large_mapcount ?? fields.mapcount);
    case 'pincount': return fields.pincount === undefined ? 'c0' : colour(fields.pincount);
    case 'folio': return fields.folio?.includes('head') ? 'c3' : fields.folio?.includes('tail') ? 'c1' : 'c0';
    case 'mapping': return fields.mapping ? 'c2' : 'c0';
    case 'flags': return 'c0';
    default: return colour(fields.refcount);
  }
}

/** Whether a state breaks its prediction in what is shown. */
function isWrong(state) {
  return state.absent || !state.predicted || (state.broken || []).length > 0;
}

function pageSpan(column) {
  const last = column.from + column.pages - 1;
  return column.pages === 1 ? String(column.from) : column.from + '–' + last;
}

/** All regions of a cell; `title` tells two pictures apart, `first` is what is picked before anybody picks. */
function drawPages(record, metric, focus, onPick, title, first) {
  const busy = record.pages.regions.filter((r) => !r.quiet);
  const quiet = record.pages.regions.filter((r) => r.quiet);
  return [
    busy.map((region) => drawRegion(record, region, metric, focus, onPick, title, first)),
    quiet.length > 0 ? el('p', {class: 'dim'}, 'Nothing held, changed or differed in: ',
      quiet.map((r) => `${r.name} (${thousands(r.pages)} pages from pfn ${hex(r.start_pfn)}, ${quietWords(record, r)})`).join('; ') + '.') : null,
    record.pages.regions.length === 0 ? el('p', {class: 'dim'}, 'There were no ZONE_DEVICE pages at any checkpoint.') : null,
  ];
}

function quietWords(record, region) {
  const refcounts = new Set(region.columns.flatMap((c) => c.states).filter((s) => s >= 0).map((s) => record.pages.states[s].read.refcount));
  return 'refcount ' + [...refcounts].join(' or ') + ' as predicted';
}

function drawRegion(record, region, metric, focus, onPick, title, first) {
  const states = record.pages.states;
  const columns = region.columns;
  const head = el('tr', {}, el('th', {scope: 'col', class: 'corner'}, 'pages'), columns.map((c) => {
    const th = el('th', {scope: 'col', class: 'span'}, pageSpan(c),
      el('small', {}, thousands(c.pages) + (c.pages === 1 ? ' page' : ' pages') + (c.times ? ' × ' + c.times : '')));
    th.style.minWidth = (4.5 + Math.log2(c.pages) * 0.6) + 'rem';
    return th;
  }));
  const rows = record.checkpoints.map((checkpoint, n) => {
    if (region.counts[n].length === 0 && columns.every((c) => c.states[n] < 0)) {
      return el('tr', {}, el('th', {scope: 'row'}, checkpoint.name), el('td', {colspan: columns.length, class: 'dim'}, 'not there'));
    }
    return el('tr', {class: focus === checkpoint.name ? 'asked' : ''}, el('th', {scope: 'row'}, checkpoint.name),
      columns.map((column) => {
        const state = states[column.states[n]];
        if (!state) return el('td', {class: 'dim'}, '·');
        const wrong = isWrong(state);
        const read = state.absent ? 'absent' : fieldText(state.read, metric);
        const predicted = fieldText(state.predicted, metric);
        const differs = wrong && (state.broken || []).some((b) => b.what.includes(metric)) ;
        const aloud = (words) => el('span', {class: 'sr'}, words);
        return el('td', {class: wrong ? 'wrong' : ''}, el('button', {
          type: 'button', class: first && first[1] === column && first[2] === n ? 'page picked' : 'page',
          on: {click: (event) => onPick(region, column, n, event.currentTarget)},
        }, aloud(`${checkpoint.name}, pages ${pageSpan(column)}, ${metric} read: `),
        el('span', {class: 'read ' + (state.absent ? 'c-none' : fieldColour(state.read, metric))}, (wrong ? '✗ ' : '') + read),
        aloud(', predicted: '), el('span', {class: 'predicted ' + fieldColour(state.predicted, metric)}, (differs ? '≠ ' : '') + predicted)));
      }));
  });
  return el('figure', {class: 'region'},
    el('figcaption', {}, el('b', {}, region.name), el('span', {class: 'dim'}, ` ${thousands(region.pages)} pages from pfn ${hex(region.start_pfn)}`
      + (region.metadata ? `, ${thousands(region.metadata)} of them metadata` : '') + '; the widths grow with the logarithm of their number')),
    el('div', {class: 'scroll', tabindex: 0, role: 'region', 'aria-label': `Region ${record.pages.regions.indexOf(region) + 1}${title}, pages of ${region.name} from pfn ${hex(region.start_pfn)}`}, el('table', {class: 'pages'}, el('thead', {}, head), el('tbody', {}, rows))),
    region.left_out ? el('p', {class: 'note'}, thousands(region.left_out) + ' pages in many small stretches are not drawn; `zonedev inspect` tells them.') : null);
}

function drawLegend() {
  const of = [['c0', '0'], ['c1', '1'], ['c2', '2'], ['c3', '3'], ['c4', '4–15'], ['c5', '16–511'], ['c6', '512–1023'], ['c7', '1024 and more'], ['c-neg', 'below 0']];
  return el('p', {class: 'legend'}, of.map(([name, words]) => el('span', {}, el('span', {class: 'chip ' + name}, words))),
    el('span', {class: 'dim'}, 'Upper half: read. Lower half: predicted, in its own colour. ✗ marks what is not as predicted.'));
}

/** Every field of the pages of one column at one checkpoint. */
function drawFields(record, region, column, n) {
  const state = record.pages.states[column.states[n]];
  if (!state) return null;
  const names = [['refcount', 'refcount'], ['mapcount', 'mapcount'], ['large_mapcount', 'large mapcount'], ['pincount', 'pincount'],
    ['folio', 'folio'], ['mapping', 'mapping'], ['ahead', 'index'], ['share', 'share'], ['charged', 'memory control group'], ['poisoned', 'hwpoison'], ['flags', 'flags']];
  const words = (fields, key) => {
    const value = fields?.[key];
    if (value === undefined) return '–';
    if (key === 'mapping') return value ? 'set' : 'NULL';
    if (key === 'charged') return value ? 'charged' : 'not charged';
    if (key === 'poisoned') return value ? 'set' : 'clear';
    if (key === 'ahead') return String(value + column.from);
    return String(value);
  };
  const broken = new Map((state.broken || []).map((b) => [b.what, b]));
  const rows = names.filter(([key]) => state.read[key] !== undefined || state.predicted?.[key] !== undefined).map(([key, name]) => {
    const wrong = broken.has(name);
    return el('tr', {class: wrong ? 'wrong' : ''}, el('th', {scope: 'row'}, name),
      el('td', {}, (wrong ? '✗ ' : '') + words(state.read, key)), el('td', {}, key === 'flags' ? '–' : words(state.predicted, key)));
  });
  const first = region.start_pfn + column.from;
  return el('div', {class: 'fields', tabindex: -1, role: 'group', 'aria-label': 'Fields of the chosen pages'},
    el('h3', {}, `${region.name}, pages ${pageSpan(column)} at “${record.checkpoints[n].name}”`),
    el('p', {class: 'dim'}, `pfn ${hex(first)}${column.pages > 1 ? ' to ' + hex(first + column.pages - 1) : ''}`
      + (column.times ? `, and ${column.times - 1} times more behind that, with the column beside it` : '')),
    state.absent ? el('p', {class: 'bad-text'}, 'There is no struct page here, or it could not be read.') : null,
    [...broken.values()].map((b) => el('p', {class: 'bad-text'}, `✗ ${b.what}: expected ${b.expected}, found ${b.found}`)),
    state.absent ? null : el('table', {}, el('thead', {}, el('tr', {}, ['field', 'read', 'predicted'].map((t) => el('th', {scope: 'col'}, t)))), el('tbody', {}, rows)),
    state.predicted ? el('p', {}, el('span', {class: 'dim'}, 'refcount because: '), state.because || '–') : el('p', {class: 'warn'}, 'Nothing predicts these pages.'),
    el('p', {}, el('span', {class: 'dim'}, 'held by: '), state.held || 'nothing'));
}
