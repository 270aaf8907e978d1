import { svelte } from '@sveltejs/vite-plugin-svelte';
import { createHash } from 'node:crypto';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { brotliCompressSync, constants } from 'node:zlib';
import type { Plugin } from 'vite';
import { defineConfig } from 'vitest/config';

/**
 * KaTeX names three formats of each font; every browser we support takes woff2,
 * so the other two would only make the binary heavier.
 */
function onlyWoff2(): Plugin {
  return {
    name: 'only-woff2',
    enforce: 'pre',
    transform(code, id) {
      if (!id.includes('katex') || !/\.css(\?|$)/.test(id)) return null;
      return code.replace(/,\s*url\([^)]*\.(?:woff|ttf)\)\s*format\([^)]*\)/g, '');
    },
  };
}

/**
 * The service worker keeps the files that the first screen needs; which these are, and a digest of
 * them that makes each build's worker another one, is known only now.
 */
function serviceWorker(): Plugin {
  const source = fileURLToPath(new URL('./src/service-worker.js', import.meta.url));
  return {
    name: 'service-worker',
    apply: 'build',
    generateBundle(_options, bundle) {
      const files = new Set(['/', '/early.js', '/icon.svg', '/manifest.webmanifest']);
      const digest = createHash('sha256').update(readFileSync(source));
      for (const file of Object.values(bundle)) {
        digest.update(file.fileName);
        if (file.type !== 'chunk' || !file.isEntry) continue;
        for (const name of [file.fileName, ...file.imports]) files.add(`/${name}`);
        for (const name of file.viteMetadata?.importedCss ?? []) files.add(`/${name}`);
      }
      const code = readFileSync(source, 'utf8')
        .replace("'SHELL'", JSON.stringify([...files]))
        .replace('VERSION', digest.digest('hex').slice(0, 16));
      this.emitFile({ type: 'asset', fileName: 'sw.js', source: code });
    },
  };
}

/** Every file that shrinks stands compressed beside itself: the binary embeds both and serves what a browser takes. */
function brotli(): Plugin {
  let dist = '';
  return {
    name: 'brotli',
    apply: 'build',
    configResolved: (config) => void (dist = join(config.root, config.build.outDir)),
    closeBundle() {
      for (const name of readdirSync(dist, { recursive: true, encoding: 'utf8' })) {
        if (!/\.(html|js|css|svg|json|webmanifest)$/.test(name)) continue;
        const bytes = readFileSync(join(dist, name));
        const size = { [constants.BROTLI_PARAM_SIZE_HINT]: bytes.length };
        const small = brotliCompressSync(bytes, { params: size });
        if (small.length < bytes.length) writeFileSync(join(dist, `${name}.br`), small);
      }
    },
  };
}

const server = process.env['DAYBREAK_SERVER'] ?? 'http://127.0.0.1:8420';

export default defineConfig({
  plugins: [onlyWoff2(), svelte(), serviceWorker(), brotli()],
  resolve: {
    alias: { $lib: fileURLToPath(new URL('./src/lib', import.meta.url)) },
    ...(process.env['VITEST'] ? { conditions: ['browser'] } : {}),
  },
  build: {
    target: ['chrome123', 'firefox121', 'safari17.5'],
    cssTarget: ['chrome123', 'firefox121', 'safari17.5'],
    modulePreload: { polyfill: false },
    // The binary carries its own licence list; source maps would double its size.
    sourcemap: false,
    // A data: address for a font or picture would need a looser content policy.
    assetsInlineLimit: 0,
  },
  server: {
    proxy: {
      '/api': { target: server, changeOrigin: true, headers: { origin: server } },
    },
  },
  test: {
    environment: 'node',
    include: ['src/**/*.test.ts'],
  },
});
