/** Starts the page. */
import { mount } from 'svelte';
import App from './components/App.svelte';
import './styles/base.css';

const target = document.querySelector('#app');
if (target) mount(App, { target });

// Not while developing: there every file changes under its name.
if (import.meta.env.PROD && 'serviceWorker' in navigator) {
  addEventListener('load', () => {
    // Without it (plain http beyond this machine, a private window) the page works all the same.
    navigator.serviceWorker.register('/sw.js', { updateViaCache: 'none' }).catch(() => undefined);
  });
}
