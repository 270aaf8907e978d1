import js from '@eslint/js';
import svelte from 'eslint-plugin-svelte';
import globals from 'globals';
import ts from 'typescript-eslint';
import svelteConfig from './svelte.config.js';

export default ts.config(
  { ignores: ['dist/', 'node_modules/'] },
  js.configs.recommended,
  ...ts.configs.strict,
  ...svelte.configs.recommended,
  ...svelte.configs.prettier,
  {
    languageOptions: { globals: { ...globals.browser } },
    rules: {
      'no-undef': 'off',
      'no-console': 'error',
      // All calls to the server are in api.ts.
      'no-restricted-globals': [
        'error',
        { name: 'fetch', message: 'call the server through $lib/api.ts' },
      ],
      '@typescript-eslint/consistent-type-imports': 'error',
      'svelte/no-navigation-without-resolve': 'off',
      // A Map that nothing on the screen reads needs no signals.
      'svelte/prefer-svelte-reactivity': 'off',
      // Only sanitised Markdown goes through {@html}; each use says so.
      'svelte/no-at-html-tags': 'error',
    },
  },
  {
    files: ['**/*.svelte', '**/*.svelte.ts'],
    languageOptions: {
      parserOptions: { parser: ts.parser, extraFileExtensions: ['.svelte'], svelteConfig },
    },
  },
  { files: ['src/lib/api.ts', 'src/service-worker.js'], rules: { 'no-restricted-globals': 'off' } },
  {
    files: ['*.config.{js,ts}', 'public/*.js'],
    languageOptions: { globals: { ...globals.node, ...globals.browser } },
  },
);
