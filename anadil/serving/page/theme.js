// Before the page is drawn: the light or dark colours that were chosen, else those of the system.
const chosenTheme = localStorage.getItem("theme");
if (chosenTheme) document.documentElement.dataset.theme = chosenTheme;
