/* The server's state, asked for every few seconds while the page is seen. */
import {$} from "./dom.js";
import {ask} from "./stream.js";

const BUSY_SECONDS = 4, IDLE_SECONDS = 10, POINTS = 60;

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
  /* `key` gives the API key, `isAnswering` whether this page waits for an answer; `onModels` gets the list of models
   * whenever it changed, `onState` is called after each look. */
  constructor({key, isAnswering, onModels, onState}) {
    this.key = key;
    this.isAnswering = isAnswering;
    this.onModels = onModels;
    this.onState = onState;
    this.isKnown = false; /* once it was looked at */
    this.isReached = false;
    this.wantsKey = false;
    this.keyProblem = ""; /* what the server says about a key that it does not take */
    this.told = null;     /* what the metrics said of models when these were last asked for */
    this.rates = [];
    this.last = null; /* {time, tokens} */
    this.models = "";
    document.addEventListener("visibilitychange", () => this.tick());
    this.tick();
  }

  /* Looks now, and again later: not while the page is hidden, nor before there is a key where one is wanted. */
  async tick() {
    clearTimeout(this.timer);
    const turn = (this.turn = (this.turn ?? 0) + 1);
    if (document.hidden)
      return;
    const found = await this.look();
    if (turn !== this.turn) /* asked again meanwhile */
      return;
    this.show(found);
    this.onState();
    if (!this.wantsKey)
      this.timer = setTimeout(() => this.tick(), (this.isBusy ? BUSY_SECONDS : IDLE_SECONDS) * 1000);
  }

  /* The metrics say nearly all. The models' list is asked for when they tell of others than last time, /ready while some
   * model is not ready, and both where there are no metrics. */
  async look() {
    const key = this.key(), metrics = await ask("metrics", key), has = metrics.status === 200;
    if (metrics.status === 0 || metrics.status === 401)
      return {metrics, refusal: metrics.status === 401 ? metrics : null, told: null};
    const states = has ? metrics.text.match(/^bulla_model_ready\{.*$/gm) ?? [] : [];
    const isReady = states.length > 0 && states.every((line) => line.endsWith("} 1"));
    const told = has ? states.join("\n") : null, isSame = has && told === this.told;
    const [ready, models] = await Promise.all(
      [isReady ? {status: 200, text: ""} : ask("ready", key), isSame ? null : ask("v1/models", key)]);
    return {metrics, ready, models, told, refusal: models?.status === 401 ? models : null};
  }

  show({metrics, ready, models, told, refusal}) {
    const text = metrics.status === 200 ? metrics.text : "";
    this.isKnown = true;
    this.isReached = metrics.status !== 0;
    this.wantsKey = refusal !== null;
    this.keyProblem = refusal && this.key() ? sentence(parse(refusal.text)?.error?.message) : "";
    this.showState(ready);
    if (refusal || models?.status === 200)
      this.showModels(models);
    if (models !== null)
      this.told = models?.status === 200 ? told : null;
    this.showMetrics(text);
    $("server-version").textContent = /^bulla_build_info\{version="([^"]*)"/m.exec(text)?.[1] ?? "–";
  }

  showState(ready) {
    const [word, kind] = !this.isReached        ? ["Not reached", "bad"]
                         : this.wantsKey        ? ["Key needed", ""]
                         : ready.status === 200 ? ["Ready", "good"]
                                                : ["Not ready", ""];
    const message = word === "Not ready" ? parse(ready.text)?.error?.message : "";
    $("state-word").textContent = word;
    $("state-dot").className = "dot " + kind;
    $("server-state").textContent = message || word;
  }

  showModels(answer) {
    const data = answer?.status === 200 ? parse(answer.text)?.data : null;
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

  showMetrics(text) {
    const sums = parseMetrics(text);
    const get = (name) => sums.get("vllm:" + name);
    const set = (id, value, form) => ($(id).textContent = value === undefined ? "–" : form(value));
    const usages =
      [...text.matchAll(/^vllm:(?:kv|gpu)_cache_usage_perc(?:\{.*\})?\s+(\S+)/gm)].map((found) => Number(found[1]));
    const queried = get("prefix_cache_queries_total"), hit = get("prefix_cache_hits_total");
    this.isBusy = this.isAnswering() || get("num_requests_running") > 0 || get("num_requests_waiting") > 0;
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
