// @vitest-environment jsdom
import { describe, expect, test } from 'vitest';
import { createSplitter, renderBlock, type Labels } from './render';

const labels: Labels = {
  copyCode: 'Copy',
  code: 'code',
  table: 'Table',
  image: (host) => `image on ${host}`,
  localImage: 'image',
};

function html(text: string): string {
  return createSplitter()
    .split(text)
    .map((block) =>
      block.kind === 'html' ? renderBlock(block, labels) : `[${block.language}|${block.code}]`,
    )
    .join('');
}

describe('what an answer may do to the page', () => {
  test.each([
    '<script>alert(1)</script>',
    '<img src=x onerror=alert(1)>',
    'a <b onmouseover="alert(1)">b</b>',
    '[x](javascript:alert(1))',
    '[x](data:text/html,<script>alert(1)</script>)',
    '![x](javascript:alert(1))',
    '<a href="vbscript:x">y</a>',
    '$\\href{javascript:alert(1)}{x}$',
    '| <script>alert(1)</script> | x |\n|---|---|\n| 1 | 2 |',
    '- ```"><script>alert(1)</script>\n  <script>alert(2)</script>\n  ```',
  ])('%s stays text', (hostile) => {
    const place = document.createElement('div');
    place.innerHTML = html(hostile);
    expect(place.querySelector('script, img, [onerror], [onmouseover], [style]')).toBeNull();
    for (const link of place.querySelectorAll('a')) expect(link.href).toMatch(/^https?:/);
  });

  test('links open outside and tell nothing about this page', () => {
    expect(html('[a](https://example.com)')).toContain(
      'href="https://example.com" target="_blank" rel="noopener noreferrer nofollow"',
    );
  });

  test('a picture from elsewhere is a link, not a request', () => {
    const out = html('![cat](https://example.com/cat.png)');
    expect(out).not.toContain('<img');
    expect(out).toContain('image on example.com');
  });
});

describe('typesetting', () => {
  test('Chinese emphasis closes after punctuation', () => {
    expect(html('他说**“你好。”**然后走了')).toContain('<strong>“你好。”</strong>');
  });

  test('tables keep their alignment without inline styles', () => {
    expect(html('| a |\n|--:|\n| 1 |')).toContain('<td align="right">1</td>');
  });

  test('headings of an answer stand below those of the page', () => {
    expect(html('# Title')).toBe('<h3 class="md-h1">Title</h3>\n');
  });

  test('a task list shows its boxes', () => {
    expect(html('- [x] done\n- [ ] open')).toMatch(/☑ done[\s\S]*☐ open/);
  });
});

describe('formulas', () => {
  const formulas = (text: string) =>
    [...html(text).matchAll(/data-tex="([^"]*)"/g)].map((hit) => hit[1]);

  test.each([
    ['$$\nx^2\n$$', ['x^2']],
    ['\\[ a+b \\]', ['a+b']],
    ['so \\(a\\) and $b_1$ hold', ['a', 'b_1']],
    ['当 $x=1$ 时', ['x=1']],
    ['one line $$y$$ here', ['y']],
    ['- item\n\n  $$\n  z\n  $$', ['z']],
  ])('%j holds formulas', (text, found) => {
    expect(formulas(text)).toEqual(found);
  });

  test.each([
    'It costs $5 or $10.',
    'from $5 to 10$ each',
    'US$5 and US$6',
    '`$x$`',
    '价格是$5和$6',
    '\\$a$',
  ])('%j holds none', (text) => {
    expect(formulas(text)).toEqual([]);
  });
});

describe('a text that grows', () => {
  const whole =
    '# A\n\nfirst *para*\n\n- one\n- two\n\n  more\n\n```js\nlet x = 1\n```\n\n| a |\n|---|\n| 1 |\n\nlast';

  test('ends as if it had been read at once, wherever it was cut', () => {
    const splitter = createSplitter();
    let blocks = splitter.split('');
    for (let end = 1; end <= whole.length; end += 1) blocks = splitter.split(whole.slice(0, end));
    const plain = (list: typeof blocks) => list.map((block) => ({ ...block, env: undefined }));
    expect(plain(blocks)).toEqual(plain(createSplitter().split(whole)));
  });

  test('finished blocks are the very same objects, so nothing draws them again', () => {
    const splitter = createSplitter();
    const [before] = splitter.split('one\n\ntwo\n\nthr');
    const [after] = splitter.split('one\n\ntwo\n\nthree\n\nfour');
    expect(after).toBe(before);
  });

  test('an unfinished code block is known to be open', () => {
    expect(createSplitter().split('```py\nx = 1')).toMatchObject([
      { kind: 'code', open: true, code: 'x = 1' },
    ]);
    expect(createSplitter().split('```py\nx\n```')).toMatchObject([{ open: false }]);
  });
});
