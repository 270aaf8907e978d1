/** Starts the page. */
import { mount } from 'svelte';
import App from './components/App.svelte';
import './styles/base.css';

const target = document.querySelector('#app');
if (target) mount(App, { target });
