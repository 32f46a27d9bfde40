const search = document.getElementById("search");
const shown = document.getElementById("shown");
const buttons = [...document.querySelectorAll("button[data-filter]")];
const articles = [...document.querySelectorAll("article")];

function chosen(kind) {
  const pressed = buttons.filter((b) => b.dataset.filter === kind && b.ariaPressed === "true");
  return pressed.map((b) => b.dataset.value);
}

function update() {
  const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
  const papers = chosen("paper");
  const statuses = chosen("status");
  let count = 0;
  for (const article of articles) {
    const { text, status, papers: letters } = article.dataset;
    const fits =
      words.every((word) => text.includes(word)) &&
      (papers.length === 0 || papers.some((letter) => letters.includes(letter))) &&
      (statuses.length === 0 || statuses.includes(status));
    article.hidden = !fits;
    count += fits;
  }
  for (const section of document.querySelectorAll("section")) {
    section.hidden = !section.querySelector("article:not([hidden])");
  }
  shown.textContent = `${count} of ${articles.length} statements`;
}

// Many cards show the same function, so that its source stands in the page once.
for (const details of document.querySelectorAll("article details")) {
  details.addEventListener("toggle", () => {
    for (const place of details.querySelectorAll("[data-code]:empty")) {
      const source = document.querySelector(`template[data-name="${place.dataset.code}"]`);
      if (source) place.append(source.content.cloneNode(true));
    }
  });
}

search.addEventListener("input", update);
for (const button of buttons) {
  button.addEventListener("click", () => {
    button.ariaPressed = button.ariaPressed === "true" ? "false" : "true";
    update();
  });
}
update();
