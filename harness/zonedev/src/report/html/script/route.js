// Which of the two is shown, the page or a cell, by the fragment.

const OVERVIEW = document.getElementById('overview');
const CELL = document.getElementById('cell');
const TITLE = document.title;
let cameFrom = null;
let scrolledTo = 0;

async function show() {
  const asked = readHash();
  if (!asked) {
    // A fragment within a cell, such as that of a report, is the browser's.
    if (!CELL.hidden && location.hash.length > 1 && CELL.querySelector('#' + CSS.escape(location.hash.slice(1)))) {
      openAround(document.getElementById(location.hash.slice(1)));
      return;
    }
    const back = !CELL.hidden;
    CELL.hidden = true;
    CELL.replaceChildren();
    OVERVIEW.hidden = false;
    document.title = TITLE;
    if (location.hash.length > 1) openAround(document.getElementById(location.hash.slice(1)));
    else if (back) {
      scrollTo({top: scrolledTo, behavior: 'instant'});
      cameFrom?.focus({preventScroll: true});
    }
    return;
  }
  if (CELL.hidden) {
    scrolledTo = scrollY;
    cameFrom = document.activeElement;
  }
  let content;
  try {
    const data = await readCase(asked.name);
    content = data ? drawCell(data, asked) : el('div', {class: 'cell-head'}, backLink(), el('h1', {tabindex: -1}, 'No such case'), el('p', {}, asked.name));
  } catch (error) {
    content = el('div', {class: 'cell-head'}, backLink(), el('h1', {tabindex: -1}, 'This cell can’t be shown'), el('p', {class: 'warn'}, String(error)));
    console.error(error);
  }
  CELL.replaceChildren();
  append(CELL, [content]);
  OVERVIEW.hidden = true;
  CELL.hidden = false;
  document.title = asked.name + ' · ' + TITLE;
  scrollTo({top: 0, behavior: 'instant'});
  if (asked.checkpoint !== null && document.getElementById('pages')) arrive(document.getElementById('h-pages'));
  else if (asked.step !== null && document.getElementById('step-' + asked.step)) arrive(document.getElementById('step-' + asked.step));
  else CELL.querySelector('h1').focus({preventScroll: true});
}

/** To a place within the cell that is open. */
function go(key, value) {
  const asked = readHash() || {};
  history.pushState(null, '', cellHash(asked.side, asked.name, {[key]: value}));
  show();
}

function arrive(at) {
  at.scrollIntoView({block: 'start', behavior: 'instant'});
  at.focus({preventScroll: true});
  // On a narrow screen what is wrong may lie beyond the edge.
  CELL.querySelector('.page.picked')?.scrollIntoView({block: 'nearest', inline: 'center', behavior: 'instant'});
}

/** What is folded around an element is unfolded. */
function openAround(at) {
  if (!at) return;
  for (let e = at; e; e = e.parentElement) if (e.tagName === 'DETAILS') e.open = true;
  at.scrollIntoView({block: 'start', behavior: 'instant'});
}

addEventListener('hashchange', show);
addEventListener('popstate', show);
addEventListener('keydown', (event) => {
  if (event.key === 'Escape' && !CELL.hidden && !event.defaultPrevented) location.hash = '';
});
startMatrix();
show();
// The moment from which the page answers; the browser's tools show it.
performance.mark('usable');
