// The data of the cells, unpacked when a cell is opened.

const INDEX = JSON.parse(document.getElementById('index').textContent);
const CASES = JSON.parse(document.getElementById('cases').textContent);
const UNPACKED = new Map();

/** An element, once the parser is past it: the data come behind the script. */
async function arrived(id) {
  // It is whole when something stands behind it.
  while (document.readyState === 'loading' && !document.getElementById(id)?.nextElementSibling) {
    await new Promise((done) => setTimeout(done, 20));
  }
  return document.getElementById(id);
}

/** The data of a case on every kernel, or null where there is no such case. */
async function readCase(name) {
  if (!Object.hasOwn(CASES, name)) return null;
  if (!UNPACKED.has(name)) {
    const text = (await arrived('case-' + CASES[name])).textContent;
    const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream('deflate-raw'));
    UNPACKED.set(name, JSON.parse(await new Response(stream).text()));
  }
  return UNPACKED.get(name);
}

/** The fragment that opens a cell. */
function cellHash(side, name, place) {
  const keep = (text) => encodeURIComponent(text).replace(/%2F/g, '/').replace(/%3A/g, ':');
  const rest = Object.entries(place || {}).filter(([, value]) => value !== undefined && value !== null)
    .map(([key, value]) => '&' + key + '=' + keep(value));
  return '#cell=' + side + ':' + keep(name) + rest.join('');
}

/** What a fragment asks for; null where it is no cell. */
function readHash() {
  if (!location.hash.startsWith('#cell=')) return null;
  // A plus stands for itself: the links never write a blank so.
  const asked = new URLSearchParams(location.hash.slice(1).replace(/\+/g, '%2B'));
  const cell = asked.get('cell');
  const colon = cell.indexOf(':');
  const step = asked.get('step');
  return {
    side: Number.parseInt(cell.slice(0, colon), 10),
    name: cell.slice(colon + 1),
    checkpoint: asked.get('checkpoint'),
    step: step === null ? null : Number.parseInt(step, 10),
    line: asked.get('line') === null ? null : Number.parseInt(asked.get('line'), 10),
  };
}
