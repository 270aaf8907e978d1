// Runs before the first paint, so that a chosen theme or language never flashes as another one.
(function () {
  try {
    var saved = JSON.parse(localStorage.getItem('daybreak.preferences') || '{}');
    var root = document.documentElement;
    if (saved.theme === 'light' || saved.theme === 'dark') root.dataset.theme = saved.theme;
    root.lang = saved.locale || (/^zh\b/i.test(navigator.language) ? 'zh-CN' : 'en');
  } catch {
    // Storage may be closed to us; the system's own choice holds then.
  }
})();
