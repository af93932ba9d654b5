/** The page: reads the stream and hands each snapshot to the parts. */

import { byId, count, duration, el, keyed, plural, say } from "./dom.js";
import { backends, capacity, deployments, queues } from "./fleet.js";
import { events } from "./events.js";
import { begin, objectives } from "./objectives.js";
import { rollouts } from "./rollouts.js";
import { follow, load, useToken } from "./stream.js";

const PARTS = [events, objectives, backends, queues, rollouts, deployments, capacity];

function problems(now) {
  const found = now.routes.problems.map((problem) => `Routes not loaded, the old ones stay in use: ${problem}`);
  if (now.draining) found.unshift("The gateway is stopping.");
  if (now.not_saved) found.push(`State is not saved: ${now.not_saved}`);
  for (const [what, left] of Object.entries(now.left_out)) {
    if (left) found.push(`${plural(left, what.slice(0, -1))} not shown: these are the worst off. GET /admin/status has all.`);
  }
  byId("problems").hidden = !found.length;
  keyed(byId("problems"), found, (text) => text, (text) => el("li", {}, text), () => {});
}

function tell(now) {
  say(byId("connection"), "Live");
  byId("connection").className = "live";
  const [busy, open] = [plural(now.in_flight, "request"), plural(now.client_connections, "connection")];
  say(byId("gateway"), `${now.version}, up ${duration(now.uptime_seconds)}, ${busy} in progress, ${open}`);
  problems(now);
  for (const each of document.querySelectorAll(".waiting")) each.remove();
  for (const part of PARTS) part(now);
  if (!document.documentElement.dataset.at) load("admin/history").then(begin, () => {});
  document.documentElement.dataset.at = now.at;
}

function lost(why) {
  say(byId("connection"), `Not live: ${why}. Trying again; what is shown is old.`);
  byId("connection").className = "lost";
}

function wanted(problem) {
  const form = byId("token-form");
  form.hidden = false;
  say(byId("token-error"), problem);
  say(byId("connection"), "The gateway asks for its admin token");
  byId("connection").className = "lost";
  byId("token").focus();
  return new Promise((resolve) => {
    form.onsubmit = (submitted) => {
      submitted.preventDefault();
      useToken(byId("token").value);
      byId("token").value = "";
      form.hidden = true;
      resolve();
    };
  });
}

follow("admin/stream", { tell, lost, wanted });
