/** Rollouts: the steps, the evidence, and what a person may do. */

import { byId, count, duration, el, empty, keyed, part as share, say, sentence } from "./dom.js";
import { command, mayCommand } from "./stream.js";

const LIVE = ["step", "paused", "waiting"];
const ACTIONS = [
  ["promote", "Promote", ["step", "paused"], "sends all requests to"],
  ["pause", "Pause", ["step"], "keeps the share of"],
  ["resume", "Resume", ["paused"], "goes on with"],
  ["rollback", "Roll back", LIVE, "sends no more requests to"],
  ["start", "Start", ["idle", "rolled_back"], "begins to send requests to"],
];

let asked = null;
byId("confirm-no").addEventListener("click", () => byId("confirm").close());
byId("confirm").querySelector("form").addEventListener("submit", async (submitted) => {
  submitted.preventDefault();
  const yes = byId("confirm-yes");
  yes.disabled = true;
  try {
    const path = asked.model.split("/").map(encodeURIComponent).join("/");
    await command(`admin/models/${path}/canary/${asked.action}`, byId("confirm-reason").value);
    byId("confirm").close();
  } catch (error) {
    say(byId("confirm-error"), error.message);
  } finally {
    yes.disabled = false;
  }
});

function confirm(action, title, effect, rollout) {
  asked = { action, model: rollout.model };
  say(byId("confirm-title"), `${title} ${rollout.model}?`);
  say(byId("confirm-text"), `This ${effect} ${rollout.candidate}, which has ${rollout.weight} % now; stable is ${rollout.stable}.`);
  say(byId("confirm-error"), "");
  say(byId("confirm-yes"), title);
  byId("confirm-reason").value = "";
  byId("confirm").showModal();
}

function make(rollout) {
  const buttons = ACTIONS.map(([action, title]) =>
    el("button", { type: "button", "data-action": action, "aria-label": `${title} ${rollout.model}` }, title));
  return el(
    "article",
    { class: "card wide" },
    el("h3", {}, rollout.model),
    el("p", { "data-part": "where" }),
    el("ol", { class: "steps", "aria-label": `Steps of ${rollout.model}` }),
    el("p", { "data-part": "decision" }),
    el("ul", { "data-part": "notes" }),
    el(
      "div",
      { class: "scroller", role: "region", tabindex: "0", "aria-label": `Evidence for ${rollout.candidate}` },
      el(
        "table",
        {},
        el("caption", {}, "Requests that missed, of all since it began. Evidence is how many times likelier that is if the candidate is worse."),
        el("thead", {}, el("tr", {}, ...["SLI", rollout.stable, rollout.candidate, "Evidence against it"].map((each) => el("th", { scope: "col" }, each)))),
        el("tbody"),
      ),
    ),
    el("p", { class: "buttons" }, ...buttons),
    el("p", { class: "quiet", "data-part": "locked" }, "The gateway wants its admin token for these."),
  );
}

function stateOf(rollout, step) {
  const at = rollout.step - 1;
  if (rollout.phase === "promoted") return "done";
  if (rollout.phase === "rolled_back" || rollout.phase === "idle") return "ahead";
  return step < at ? "done" : step === at ? "now" : "ahead";
}

function update(card, rollout) {
  const part = (name) => card.querySelector(`[data-part=${name}]`);
  const when = rollout.seconds_left ? `, this step may end in ${duration(rollout.seconds_left)}` : "";
  const phase = rollout.phase.replaceAll("_", " ");
  say(part("where"), `${sentence(`${phase}: ${rollout.candidate} has ${rollout.weight} %${when}`)} ${sentence(rollout.reason)}`);
  card.dataset.phase = rollout.phase;
  const steps = rollout.steps.map((share, step) => ({ share, step, state: stateOf(rollout, step) }));
  keyed(card.querySelector(".steps"), steps, (each) => each.step.toString(), () => el("li"), (item, each) => {
    say(item, `${each.share} %`);
    item.dataset.state = each.state;
    if (each.state === "now") item.setAttribute("aria-current", "step");
    else item.removeAttribute("aria-current");
  });
  const decided = rollout.decision === rollout.reason ? "" : rollout.decision;
  say(part("decision"), [decided, rollout.failing, rollout.outlook].filter(Boolean).map(sentence).join(" "));
  keyed(part("notes"), rollout.notes, (note) => note, (note) => el("li", {}, sentence(note)), () => {});
  keyed(card.querySelector("tbody"), rollout.slis, (each) => each.sli, makeRow, (row, each) => {
    const [, stable, candidate, evidence] = row.children;
    stable.dataset.label = rollout.stable;
    candidate.dataset.label = rollout.candidate;
    say(stable, missed(each.stable_bad, each.stable_total));
    say(candidate, missed(each.candidate_bad, each.candidate_total));
    say(evidence, `${likelihood(each.e_value)}×; rolls back at ${count(rollout.roll_back_at)}×`);
  });
  for (const [action, title, phases, effect] of ACTIONS) {
    const button = card.querySelector(`[data-action=${action}]`);
    button.hidden = !phases.includes(rollout.phase);
    button.disabled = !mayCommand();
    button.onclick = () => confirm(action, title, effect, rollout);
  }
  part("locked").hidden = mayCommand();
}

function makeRow(each) {
  return el("tr", {}, el("th", { scope: "row" }, each.sli), el("td"), el("td"), el("td", { "data-label": "Evidence against it" }));
}

const likelihood = (value) => (value < 100 ? value.toFixed(2) : count(Math.round(value)));

function missed(bad, total) {
  return total ? `${count(bad)} of ${count(total)}, ${share(bad / total)}` : "none yet";
}

export function rollouts(now) {
  empty(byId("rollouts"), !now.rollouts.length);
  keyed(byId("rollouts").querySelector(".cards"), now.rollouts, (each) => `${each.model} ${each.stable} ${each.candidate}`, make, update);
}
