// Elements out of data. Text becomes text nodes, never markup.

/** An element with attributes and children; a string is text, null and false are left out. */
function el(tag, attributes, ...children) {
  const out = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name === 'on') for (const [event, what] of Object.entries(value)) out.addEventListener(event, what);
    else out.setAttribute(name, value === true ? '' : value);
  }
  append(out, children);
  return out;
}

function append(to, children) {
  for (const child of children.flat(Infinity)) {
    if (child === null || child === undefined || child === false || child === '') continue;
    to.append(child instanceof Node ? child : document.createTextNode(String(child)));
  }
}

/** The same for SVG. */
function svg(tag, attributes, ...children) {
  const out = document.createElementNS('http://www.w3.org/2000/svg', tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value !== null && value !== undefined) out.setAttribute(name, value);
  }
  append(out, children);
  return out;
}

/** A section under a heading that links can lead to. */
function section(id, title, ...children) {
  return el('section', {id, 'aria-labelledby': 'h-' + id},
    el('h2', {id: 'h-' + id, tabindex: -1}, title), ...children);
}

/** What is folded away. */
function folded(summary, open, ...children) {
  return el('details', {open}, el('summary', {}, summary), ...children);
}

function plural(n, one, many) {
  return thousands(n) + ' ' + (n === 1 ? one : many || one + 's');
}

function thousands(n) {
  return String(n).replace(/\B(?=(\d{3})+(?!\d))/g, '\u202f');
}

/** Microseconds as people say them. */
function micros(us) {
  if (us < 1000) return us + ' µs';
  if (us < 1000000) return (us / 1000).toFixed(us < 10000 ? 1 : 0) + ' ms';
  return (us / 1000000).toFixed(1) + ' s';
}

const hex = (n) => '0x' + n.toString(16);

/** Verdicts in words and signs: colour is never the only carrier. */
const VERDICTS = {
  pass: ['✓', 'pass'], fail: ['✗', 'FAIL'], skip: ['○', 'skip'], error: ['!', 'error'], unfinished: ['!', 'not run'],
};
const PAIRS = {
  same: ['=', 'same as the baseline'], changed: ['≠', 'changed as accepted'],
  regressed: ['✗', 'regressed'], fixed: ['↑', 'fixed'], '': ['○', 'not compared'],
};

function badge(verdict) {
  const [sign, word] = VERDICTS[verdict] || VERDICTS.unfinished;
  return el('span', {class: 'badge ' + verdict}, sign + ' ' + word);
}
