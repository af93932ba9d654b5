/** The paths of the admin API, read from its own description. */

import { byId, say, table } from "./dom.js";
import { load, useToken } from "./stream.js";

const show = table(byId("paths"), "Paths", (each) => `${each.method} ${each.path}`, [
  ["Path", (cell, each) => say(cell, `${each.method} ${each.path}`)],
  ["What it does", (cell, each) => say(cell, each.words)],
]);

async function read() {
  try {
    const { paths } = await load("openapi.json");
    const rows = Object.entries(paths).flatMap(([path, methods]) =>
      Object.entries(methods).map(([method, { description, summary }]) =>
        ({ path, method: method.toUpperCase(), words: description ?? summary ?? "" })));
    show(rows);
    say(byId("problem"), "");
    byId("token-form").hidden = true;
  } catch (error) {
    say(byId("problem"), error.message);
    byId("token-form").hidden = error.status !== 401;
  }
}

byId("token-form").addEventListener("submit", (submitted) => {
  submitted.preventDefault();
  useToken(byId("token").value);
  read();
});
read();
