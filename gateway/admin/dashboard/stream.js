/** Reads the gateway's snapshots, and sends commands. The token lives in this module's memory and nowhere else. */

const WHOLE = "data: ";
const CHANGES = "event: changes\ndata: ";
const SILENT = 5000;
const RETRY = 1000;
const MOST_RETRY = 8000;
let token = "";
let tokenIsWanted = false;

export class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

export function useToken(typed) {
  token = typed.trim();
}

/** Whether commands can be sent: with a token, or to a gateway that wants none. */
export const mayCommand = () => Boolean(token) || !tokenIsWanted;

async function ask(path, options = {}) {
  const headers = { ...options.headers };
  if (token) headers.authorization = `Bearer ${token}`;
  const answer = await fetch(path, { ...options, headers, cache: "no-store" });
  if (answer.ok) return answer;
  if (answer.status === 401) tokenIsWanted = true;
  const told = await answer.json().catch(() => ({}));
  throw new Refused(answer.status, told.error?.message ?? `the gateway answered ${answer.status}`);
}

export const load = async (path) => (await ask(path)).json();

export async function command(path, reason) {
  if (!mayCommand()) throw new Refused(401, "type the admin token first");
  const headers = { "content-type": "application/json", "x-gateway-actor": "dashboard" };
  return (await ask(path, { method: "POST", headers, body: JSON.stringify({ reason }) })).json();
}

/** Put new values into a snapshot, each at its path. */
function change(snapshot, changes) {
  for (const [path, value] of changes) {
    const last = path.pop();
    path.reduce((within, key) => within[key], snapshot)[last] = value;
  }
}

/** Read one stream to its end; one that is silent is broken off. */
async function read(path, tell) {
  const stop = new AbortController();
  let timer;
  const expect = () => {
    clearTimeout(timer);
    timer = setTimeout(() => stop.abort(), SILENT);
  };
  const hide = () => document.hidden && stop.abort();
  document.addEventListener("visibilitychange", hide);
  try {
    expect();
    const reader = (await ask(path, { signal: stop.signal })).body.getReader();
    const decoder = new TextDecoder();
    let text = "";
    let snapshot = null;
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      expect();
      text += decoder.decode(value, { stream: true });
      const events = text.split("\n\n");
      text = events.pop();
      for (const event of events) {
        if (event.startsWith(WHOLE)) snapshot = JSON.parse(event.slice(WHOLE.length));
        else if (event.startsWith(CHANGES)) change(snapshot, JSON.parse(event.slice(CHANGES.length)));
      }
      if (snapshot && events.length) tell(snapshot);
    }
  } finally {
    clearTimeout(timer);
    document.removeEventListener("visibilitychange", hide);
  }
}

const shown = () =>
  new Promise((resolve) => {
    if (!document.hidden) resolve();
    else document.addEventListener("visibilitychange", () => resolve(), { once: true });
  });

/** Read for as long as the page is open. `tell` gets snapshots, `lost` what is wrong, `wanted` resolves with a token. */
export async function follow(path, { tell, lost, wanted }) {
  let pause = RETRY;
  for (;;) {
    await shown();
    try {
      await read(path, (snapshot) => {
        pause = RETRY;
        tell(snapshot);
      });
    } catch (error) {
      if (document.hidden) continue;
      if (error.status === 401) {
        await wanted(token ? "The gateway does not know this token." : "");
        continue;
      }
      lost(error instanceof Refused ? error.message : "the gateway does not answer");
      await new Promise((resolve) => setTimeout(resolve, pause));
      pause = Math.min(2 * pause, MOST_RETRY);
    }
  }
}
