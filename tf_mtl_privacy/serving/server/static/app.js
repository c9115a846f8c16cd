"use strict";

const byId = (id) => document.getElementById(id);
let latest = 0;

function element(name, text, attributes = {}) {
  const made = document.createElement(name);
  if (text) made.textContent = text;
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

function percent(value) {
  return `${(100 * value).toFixed(1)}\u00a0%`;
}

function attribute({ task, label, probabilities }) {
  const box = element("section", "", { class: "attribute" });
  box.append(element("h3", `${task}: ${label}`));
  const table = element("table");
  probabilities.forEach(({ name, probability }) => {
    const row = element("tr", "", name === label ? { class: "likeliest" } : {});
    const bar = element("td", "", { class: "bar" });
    const described = { max: "1", value: probability, "aria-label": `${task} ${name}` };
    bar.append(element("progress", "", described));
    row.append(
      element("th", name, { scope: "row" }),
      bar,
      element("td", percent(probability), { class: "figure" }),
    );
    table.append(row);
  });
  box.append(table);
  return box;
}

function picture({ title, alt, source }) {
  const figure = element("figure");
  figure.append(element("img", "", { src: source, alt }), element("figcaption", title));
  return figure;
}

function show(answer) {
  byId("attributes").replaceChildren(...answer.attributes.map(attribute));
  byId("pictures").replaceChildren(...answer.pictures.map(picture));
  byId("result").hidden = false;
  const predictions = answer.attributes.map(({ task, label, probabilities }) => {
    const likeliest = probabilities.find(({ name }) => name === label);
    return `${task} ${label}${likeliest ? ` (${percent(likeliest.probability)})` : ""}`;
  });
  byId("status").textContent = `Predictions: ${predictions.join(", ")}.`;
}

function fail(text) {
  byId("status").textContent = "";
  byId("result").hidden = true;
  byId("error").textContent = text;
}

async function predict(file) {
  const turn = ++latest;
  byId("error").textContent = "";
  byId("status").textContent = `Sending ${file.name}…`;
  try {
    const reply = await fetch("/page/picture", {
      method: "POST",
      body: file,
      headers: { "Content-Type": "application/octet-stream" },
    });
    const answer = await reply.json();
    if (turn !== latest) return;
    if (reply.ok) show(answer);
    else fail(`No prediction for this photo: ${answer.error}.`);
  } catch {
    if (turn === latest) fail("The server did not answer. Is it still running?");
  }
}

function listen() {
  const drop = byId("drop");
  const input = byId("file");
  byId("form").addEventListener("submit", (event) => event.preventDefault());
  input.addEventListener("change", () => input.files.length && predict(input.files[0]));
  // A photo dropped outside the box must not replace the page.
  for (const name of ["dragover", "drop"]) {
    document.addEventListener(name, (event) => event.preventDefault());
  }
  drop.addEventListener("dragover", () => drop.classList.add("over"));
  for (const name of ["dragleave", "drop"]) {
    drop.addEventListener(name, () => drop.classList.remove("over"));
  }
  drop.addEventListener("drop", (event) => {
    const [file] = event.dataTransfer.files;
    if (file) predict(file);
    else fail("That was not a file. Drop a photo file, or choose one.");
  });
}

async function card() {
  try {
    const model = await (await fetch("/page/card")).json();
    byId("summary").textContent = model.summary || "This model has no privacy card.";
    byId("model").textContent = `Model ${model.model}, version ${model.version}. `;
    byId("not-protected").replaceChildren(
      ...model.not_protected.map((line) => element("li", line)),
    );
    byId("more").hidden = model.not_protected.length === 0;
  } catch {
    byId("summary").textContent = "The privacy card could not be loaded.";
  }
}

listen();
card();
