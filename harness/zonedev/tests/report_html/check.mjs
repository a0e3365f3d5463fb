// Opens reports in a real Chromium as a reader would: from disk, with the network off, by keyboard,
// on a phone, light and dark, without JavaScript. `node check.mjs SHOTS REPORT...` exits with 1 where
// something is not as it must be. Screenshots go to the folder SHOTS.

import {readFileSync} from 'node:fs';
import {createRequire} from 'node:module';
import {basename, join, resolve} from 'node:path';
import {pathToFileURL} from 'node:url';
import {chromium} from 'playwright-core';

const [, , shots, ...files] = process.argv;
const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
// Milliseconds: a slow host (an emulated one, or one that builds meanwhile) may ask for more.
const PATIENCE = Number(process.env.REPORT_PATIENCE || 1);
const READY = 1000 * PATIENCE;
const OPENED = 1000 * PATIENCE;

const problems = [];
const times = [];
let at = '';

function must(holds, what) {
  if (!holds) problems.push(`${at}: ${what}`);
}

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM || '/usr/bin/chromium',
  args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
    '--disable-component-update', '--disable-sync'],
});

/** A page of its own, on which nothing may be said on the console and nothing may be asked for. */
async function open(file, options = {}, hash = '') {
  const context = await browser.newContext({offline: true, viewport: {width: 1280, height: 900}, ...options});
  const page = await context.newPage();
  const url = pathToFileURL(file).href;
  page.on('console', (message) => problems.push(`${at}: the console says ${message.text()}`));
  page.on('pageerror', (error) => problems.push(`${at}: ${error.stack}`));
  page.on('dialog', (dialog) => {
    problems.push(`${at}: a dialog says ${dialog.message()}`);
    void dialog.dismiss();
  });
  page.on('request', (request) => {
    const asked = request.url();
    must(asked.split('#')[0] === url || asked.startsWith('data:') || asked.startsWith('blob:'), `it asks for ${asked}`);
  });
  await page.goto(url + hash, {waitUntil: 'load'});
  return page;
}

async function accessible(page) {
  await page.evaluate(axe);
  const result = await page.evaluate(() => axe.run(document, {resultTypes: ['violations']}));
  for (const v of result.violations) {
    const nodes = v.nodes.slice(0, 3).map((n) => n.target.join(' ') + ' ' + (n.any[0]?.message || n.failureSummary));
    problems.push(`${at}: ${v.id}: ${v.help}: ${nodes.join(' | ')} (${v.nodes.length} in all)`);
  }
}

const cellOpen = (page) => page.waitForFunction(() => !document.getElementById('cell').hidden && document.querySelector('#cell h1'));
const shoot = (page, name, fullPage = false) => page.screenshot({path: join(shots, name + '.png'), fullPage});
const PHONE = {width: 390, height: 844};
// A page that is wider is zoomed out by a phone: innerWidth grows with it.
const fits = (page) => page.evaluate((width) => document.documentElement.scrollWidth <= width + 1, PHONE.width);

/** The first cell that failed, or the first of all, as a fragment. */
const worst = (page) => page.evaluate(() =>
  (document.querySelector('#failures .open') || document.querySelector('#matrix td a')).getAttribute('href'));

async function looks(file, name) {
  for (const colorScheme of ['light', 'dark']) {
    at = `${name}, ${colorScheme}`;
    const page = await open(file, {colorScheme});
    await accessible(page);
    await shoot(page, `${name}-${colorScheme}`);
    await page.evaluate((hash) => { location.hash = hash; }, await worst(page));
    await cellOpen(page);
    at += ', a cell';
    await accessible(page);
    await shoot(page, `${name}-${colorScheme}-cell`, true);
    await page.context().close();
  }
  at = `${name}, on a phone`;
  const page = await open(file, {colorScheme: 'dark', viewport: PHONE, isMobile: true, hasTouch: true});
  must(await fits(page), 'the page is wider than the screen');
  await accessible(page);
  await shoot(page, `${name}-phone`);
  await page.evaluate((hash) => { location.hash = hash; }, await worst(page));
  await cellOpen(page);
  must(await fits(page), 'a cell is wider than the screen');
  await shoot(page, `${name}-phone-cell`, true);
  await page.context().close();
}

async function keyboard(file, name) {
  at = `${name}, by keyboard`;
  const page = await open(file);
  const focused = () => page.evaluate(() => document.activeElement.getAttribute('href') || document.activeElement.id || document.activeElement.tagName);
  await page.keyboard.press('Tab');
  must(await focused() === '#matrix', `the first stop is ${await focused()}, not the way to the matrix`);
  await page.keyboard.press('Enter');
  // Into the first group, which is opened where it isn't.
  let link = '';
  for (let i = 0; i < 60 && !link.startsWith('#cell='); i++) {
    await page.keyboard.press('Tab');
    link = await focused();
    const closed = await page.evaluate(() => document.activeElement.matches('details.group:not([open]) > summary'));
    if (closed) await page.keyboard.press('Enter');
  }
  must(link.startsWith('#cell='), 'Tab does not lead to a cell');
  const seen = await page.evaluate(() => {
    const style = getComputedStyle(document.activeElement);
    return style.outlineStyle !== 'none' && Number.parseFloat(style.outlineWidth) >= 2;
  });
  must(seen, 'the focus is not seen');
  await page.keyboard.press('ArrowRight');
  const right = await focused();
  const several = await page.evaluate(() => document.activeElement.closest('tr').querySelectorAll('a').length > 1);
  must(!several || right !== link, 'the right arrow does not move');
  await page.keyboard.press('ArrowLeft');
  must(await focused() === link, 'the left arrow does not come back');
  await page.keyboard.press('ArrowDown');
  const down = await focused();
  await page.keyboard.press('ArrowUp');
  const rows = await page.evaluate(() => document.querySelectorAll('#matrix details[open] tbody tr').length);
  must(rows < 2 || down !== link, 'the down arrow does not move');
  must(await focused() === link, 'the up arrow does not come back');
  await page.keyboard.press('Enter');
  await cellOpen(page);
  must(await focused() === 'H1', 'the opened cell has not the focus');
  must(await page.evaluate(() => document.title.includes(' · ')), 'the title does not name the cell');
  await page.keyboard.press('Escape');
  await page.waitForFunction(() => document.getElementById('cell').hidden);
  must(await focused() === link, 'Esc does not come back to where one was');
  await page.context().close();
}

async function filters(file, name) {
  at = `${name}, filter`;
  const page = await open(file);
  const rows = () => page.evaluate(() => [...document.querySelectorAll('#matrix details.group:not([hidden]) tbody tr:not([hidden])')].map((r) => r.cells[0].textContent));
  const all = await rows();
  await page.fill('#filter-text', all[0]);
  const some = await rows();
  must(some.includes(all[0]) && some.length <= all.length, `the filter \`${all[0]}\` leaves ${some.slice(0, 3)}`);
  must(/\d/.test(await page.textContent('#filter-count')), 'what is found is not counted');
  await page.fill('#filter-text', 'no case is called so');
  must((await rows()).length === 0, 'something is left that does not match');
  await page.fill('#filter-text', '');
  must((await rows()).length === all.length, 'not all is back');
  await page.selectOption('#filter-class', 'fail');
  const failed = await page.evaluate(() => document.querySelectorAll('#matrix td.fail').length);
  const left = await rows();
  must((failed === 0) === (left.length === 0) && left.length <= failed, `${failed} failed, ${left.length} rows are left`);
  await page.context().close();
}

async function deepLinks(file, name) {
  at = `${name}, deep link`;
  const first = await open(file);
  const hash = await worst(first);
  await first.context().close();
  const page = await open(file, {}, hash);
  await cellOpen(page);
  if (hash.includes('&checkpoint=')) {
    const there = await page.evaluate(() => document.activeElement.id === 'h-pages'
      && document.getElementById('h-pages').getBoundingClientRect().top < innerHeight
      && document.querySelector('.pages tr.asked') !== null);
    must(there, 'the checkpoint of the link is not where one arrives');
    must(await page.evaluate(() => document.querySelector('.fields') !== null), 'the fields of its pages are not shown');
  }
  await page.goBack().catch(() => null);
  at = `${name}, a link to nothing`;
  const none = await open(file, {}, '#cell=0:no/such/case');
  await cellOpen(none);
  must((await none.textContent('#cell')).includes('No such case'), 'it is not told');
  await none.context().close();
  await page.context().close();
}

async function withoutScript(file, name) {
  at = `${name}, without JavaScript`;
  const page = await open(file, {javaScriptEnabled: false});
  must(await page.locator('h1').isVisible(), 'the verdict is not seen');
  must(await page.locator('#matrix').isVisible(), 'the matrix is not seen');
  must(await page.locator('noscript p').isVisible(), 'nobody says that details need JavaScript');
  await page.context().close();
}

/** From the start of the navigation until the page can be used, and from a click until a cell is read. */
async function speed(file, name) {
  at = `${name}, speed`;
  const page = await open(file);
  const ready = await page.evaluate(() => performance.getEntriesByName('usable')[0].startTime);
  const painted = await page.waitForFunction(() => performance.getEntriesByName('first-contentful-paint')[0]?.startTime);
  const paint = await painted.jsonValue();
  const opened = await page.evaluate(async (hash) => {
    const start = performance.now();
    location.hash = hash;
    while (document.getElementById('cell').hidden) await new Promise((done) => requestAnimationFrame(done));
    return performance.now() - start;
  }, await worst(page));
  times.push(`${name}: first seen after ${Math.round(paint)} ms, usable after ${Math.round(ready)} ms, a cell opened in ${Math.round(opened)} ms, ${(readFileSync(file).length / 1e6).toFixed(1)} MB`);
  must(ready < READY, `usable only after ${Math.round(ready)} ms`);
  must(opened < OPENED, `a cell takes ${Math.round(opened)} ms`);
  await page.context().close();
}

for (const given of files) {
  const file = resolve(given);
  const name = basename(file, '.html');
  for (const check of [looks, keyboard, filters, deepLinks, withoutScript, speed]) {
    try {
      await check(file, name);
    } catch (error) {
      problems.push(`${at}: ${error.stack}`);
    }
  }
}
await browser.close();
for (const line of times) console.log(line);
for (const problem of problems) console.error(problem);
console.log(problems.length === 0 ? `${files.length} reports are as they must be` : `${problems.length} problems`);
process.exit(problems.length === 0 ? 0 : 1);
