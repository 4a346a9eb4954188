/* The server's state, asked for every few seconds while the page is seen: /ready, /version, /v1/models, /metrics. */
import {$} from "./dom.js";
import {ask} from "./stream.js";

const SECONDS = 4, POINTS = 60;

/* Prometheus text to sums by name over all labels (docs/page.md lists the names used). */
export function parseMetrics(text) {
  const sums = new Map();
  for (const line of text.split("\n")) {
    const found = /^([A-Za-z_:][\w:]*)(?:\{.*\})?\s+([-+\d.eEinfaNI]+)/.exec(line);
    const value = found ? Number(found[2]) : NaN;
    if (Number.isFinite(value))
      sums.set(found[1], (sums.get(found[1]) ?? 0) + value);
  }
  return sums;
}

function parse(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

/* What the server says, to stand by itself. */
const sentence = (text) => text ? text[0].toUpperCase() + text.slice(1).replace(/[^.!?]$/, "$&.") : "";
const percent = (value) => (value * 100).toFixed(value < 0.1 ? 1 : 0) + " %";
const count = (value) => Math.round(value).toLocaleString("en");

export class ServerState {
  /* `key` gives the API key; `onModels` gets the list of models whenever it changed, `onState` is called after each
   * look. */
  constructor(key, onModels, onState) {
    this.key = key;
    this.onModels = onModels;
    this.onState = onState;
    this.isKnown = false; /* once it was looked at */
    this.isReached = false;
    this.wantsKey = false;
    this.keyProblem = ""; /* what the server says about a key that it does not take */
    this.rates = [];
    this.last = null; /* {time, tokens} */
    this.models = "";
    document.addEventListener("visibilitychange", () => this.tick());
    this.tick();
  }

  async tick() {
    clearTimeout(this.timer);
    const turn = (this.turn = (this.turn ?? 0) + 1);
    if (document.hidden)
      return;
    const key = this.key();
    const [ready, version, models, metrics] =
      await Promise.all(["ready", "version", "v1/models", "metrics"].map((path) => ask(path, key)));
    if (turn !== this.turn) /* asked again meanwhile */
      return;
    this.showState(ready, models);
    $("server-version").textContent = version.status === 200 ? parse(version.text)?.version ?? "–" : "–";
    this.showModels(models);
    this.showMetrics(metrics);
    this.onState();
    this.timer = setTimeout(() => this.tick(), SECONDS * 1000);
  }

  showState(ready, models) {
    const message = parse(ready.text)?.error?.message;
    this.isKnown = true;
    this.isReached = ready.status !== 0;
    this.wantsKey = models.status === 401;
    this.keyProblem = this.wantsKey && this.key() ? sentence(parse(models.text)?.error?.message) : "";
    const [word, kind] = !this.isReached        ? ["Not reached", "bad"]
                         : this.wantsKey        ? ["Key needed", ""]
                         : ready.status === 200 ? ["Ready", "good"]
                                                : ["Not ready", ""];
    $("state-word").textContent = word;
    $("state-dot").className = "dot " + kind;
    $("server-state").textContent = word === "Not ready" && message ? message : word;
  }

  showModels(answer) {
    const data = answer.status === 200 ? parse(answer.text)?.data : null;
    const models = Array.isArray(data) ? data.filter((model) => typeof model?.id === "string") : [];
    const same = JSON.stringify(models);
    if (same === this.models)
      return;
    this.models = same;
    $("server-models").replaceChildren(...models.map((model) => {
      const item = document.createElement("li"), more = document.createElement("small");
      const facts = [];
      if (Number.isInteger(model.max_model_len))
        facts.push(`context ${count(model.max_model_len)}`);
      if (model.bulla?.verified === false)
        facts.push("unverified");
      if (/^[0-9a-f]{64}$/.test(model.root ?? ""))
        facts.push("root " + model.root.slice(0, 16) + "…");
      more.append(facts.join(" · "));
      more.title = model.root ?? "";
      item.append(model.id, more);
      return item;
    }));
    this.onModels(models);
  }

  showMetrics(answer) {
    const sums = answer.status === 200 ? parseMetrics(answer.text) : new Map();
    const get = (name) => sums.get("vllm:" + name);
    const set = (id, value, form) => ($(id).textContent = value === undefined ? "–" : form(value));
    const usages = [...(answer.text ?? "").matchAll(/^vllm:(?:kv|gpu)_cache_usage_perc(?:\{.*\})?\s+(\S+)/gm)].map(
      (m) => Number(m[1]));
    const queried = get("prefix_cache_queries_total"), hit = get("prefix_cache_hits_total");
    set("server-running", get("num_requests_running"), count);
    set("server-waiting", get("num_requests_waiting"), count);
    set("server-cache", usages.length ? Math.max(...usages) : undefined, percent); /* the fullest model's */
    set("server-prefix", queried > 0 && hit !== undefined ? hit / queried : undefined, percent);
    this.showRate(get("generation_tokens_total"));
  }

  showRate(tokens) {
    const time = performance.now();
    if (tokens === undefined) {
      this.last = null;
      $("server-rate").textContent = "–";
      return;
    }
    if (this.last && tokens >= this.last.tokens) {
      const rate = (tokens - this.last.tokens) / ((time - this.last.time) / 1000);
      $("server-rate").textContent = rate.toFixed(rate < 10 ? 1 : 0);
      this.rates.push(rate);
      this.rates.splice(0, this.rates.length - POINTS);
      const most = Math.max(1, ...this.rates);
      const points = this.rates.map(
        (value, at) => `${120 - (this.rates.length - 1 - at) * (120 / (POINTS - 1))},${30 - 28 * value / most}`);
      document.querySelector("#rate polyline").setAttribute("points", points.join(" "));
    }
    this.last = {time, tokens};
  }
}
