// The matrix: the filter, and the arrow keys.

const MATRIX = document.getElementById('matrix');

function filterMatrix() {
  const text = document.getElementById('filter-text').value.trim().toLowerCase();
  const wanted = document.getElementById('filter-class').value;
  const filtering = text !== '' || wanted !== '';
  let rows = 0;
  let cells = 0;
  for (const group of MATRIX.querySelectorAll('details.group')) {
    const path = group.querySelector('.name').firstChild.textContent + '/' + group.querySelector('.name').childNodes[2].textContent.trim();
    let here = 0;
    for (const row of group.querySelectorAll('tbody tr')) {
      const name = (path + '/' + row.cells[0].textContent).toLowerCase();
      const found = [...row.cells].slice(1).filter((cell) => isWanted(cell, wanted)).length;
      const show = name.includes(text) && found > 0;
      row.hidden = !show;
      if (show) {
        here += 1;
        cells += found;
      }
    }
    rows += here;
    group.hidden = here === 0;
    if (group.dataset.open === undefined) group.dataset.open = group.open ? '1' : '';
    // What is found is seen, unless it is all.
    group.open = filtering ? here > 0 && rows <= 400 : group.dataset.open === '1';
    if (!filtering) delete group.dataset.open;
  }
  document.getElementById('filter-count').textContent =
    filtering ? plural(cells, 'cell') + ' in ' + plural(rows, 'case') : '';
}

function isWanted(cell, wanted) {
  const pair = cell.querySelector('i:not(.unread)');
  switch (wanted) {
    case '': return cell.querySelector('a') !== null;
    case 'error': return cell.classList.contains('error') || cell.classList.contains('unfinished');
    case 'regressed': return cell.classList.contains('regressed');
    case 'changed': return pair !== null && pair.textContent === 'changed';
    case 'unread': return cell.querySelector('.unread') !== null;
    default: return cell.classList.contains(wanted);
  }
}

/** The nearest link in a direction; rows of closed groups are passed over. */
function neighbour(link, key) {
  const cell = link.closest('td');
  const row = cell.parentElement;
  if (key === 'ArrowLeft' || key === 'ArrowRight') {
    const step = key === 'ArrowLeft' ? -1 : 1;
    for (let i = cell.cellIndex + step; i > 0 && i < row.cells.length; i += step) {
      const to = row.cells[i].querySelector('a');
      if (to) return to;
    }
    return null;
  }
  const rows = [...MATRIX.querySelectorAll('details.group[open]:not([hidden]) tbody tr:not([hidden])')];
  const step = key === 'ArrowUp' ? -1 : 1;
  for (let i = rows.indexOf(row) + step; i >= 0 && i < rows.length; i += step) {
    const to = rows[i].cells[cell.cellIndex]?.querySelector('a');
    if (to) return to;
  }
  return null;
}

function startMatrix() {
  const form = document.getElementById('filter');
  form.hidden = false;
  form.addEventListener('submit', (event) => event.preventDefault());
  form.addEventListener('input', filterMatrix);
  MATRIX.addEventListener('keydown', (event) => {
    const link = event.target.closest('td a');
    if (!link || !event.key.startsWith('Arrow') || event.ctrlKey || event.altKey || event.metaKey) return;
    const to = neighbour(link, event.key);
    if (to) {
      event.preventDefault();
      to.focus();
    }
  });
}
