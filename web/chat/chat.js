/* The page: conversations in memory, their messages and the composer. */
import {$, button, flash, make, say} from "./dom.js";
import {key, keyForm, startKey} from "./key.js";
import {MarkdownView} from "./markdown.js";
import {showSettingsProblem, takeSettings} from "./settings.js";
import {ServerState} from "./state.js";
import {ServerError, streamChat} from "./stream.js";

const NEAR_END = 80; /* pixels: closer than this, new text keeps the end in view */

let conversations = []; /* {title, messages, controller, waiting}; see send() for messages */
let current = null;
let isUnloadGuarded = false;
let server = null;

/* Conversations */

function newConversation() {
  if (current && !current.messages.length) {
    $("prompt").focus();
    return;
  }
  current = {title: "No messages yet", messages: [], controller: null, waiting: ""};
  conversations.unshift(current);
  showConversations();
  showMessages();
  $("prompt").focus();
}

function pick(conversation) {
  current = conversation;
  showConversations();
  showMessages();
  closeDrawers();
  $("prompt").focus();
}

function drop(conversation) {
  conversation.waiting = "";
  conversation.controller?.abort();
  conversations = conversations.filter((other) => other !== conversation);
  if (conversation === current)
    current = conversations[0] ?? null;
  if (!current)
    newConversation();
  showConversations();
  showMessages();
  $("prompt").focus();
}

function showConversations() {
  $("conversations").replaceChildren(...conversations.map((conversation) => {
    const item = make("li", conversation === current ? "current" : "");
    const name = button(conversation.title, () => pick(conversation), "pick");
    if (conversation === current)
      name.setAttribute("aria-current", "true");
    item.append(name, button("✕", () => drop(conversation), "drop", `Delete “${conversation.title}”`));
    return item;
  }));
  $("export").disabled = !conversations.some((conversation) => conversation.messages.length);
}

function exportConversations() {
  const kept =
    conversations.filter((conversation) => conversation.messages.length)
      .map(({title, messages}) => ({
             title,
             messages: messages.map(({role, content, reasoning, tool_calls, tool_call_id, model, usage, finish}) => ({
                                      role,
                                      content,
                                      reasoning: reasoning || undefined,
                                      tool_calls: tool_calls?.length ? tool_calls : undefined,
                                      tool_call_id,
                                      model,
                                      usage,
                                      finish
                                    })),
           }));
  const link = make("a");
  link.href = URL.createObjectURL(new Blob([JSON.stringify(kept, null, 2)], {type: "application/json"}));
  link.download = "bulla-conversations.json";
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

/* Messages */

function isAtEnd() {
  const log = $("log");
  return log.scrollHeight - log.scrollTop - log.clientHeight < NEAR_END;
}

function toEnd() {
  $("log").scrollTop = $("log").scrollHeight;
  $("to-end").hidden = true;
}

function showMessages() {
  $("messages").replaceChildren(...current.messages.map((message) => message.view = messageView(message)));
  current.messages.forEach((message) => message.role === "assistant" && refresh(message));
  $("empty").hidden = current.messages.length > 0;
  showBusy();
  toEnd();
}

function append(conversation, message) {
  conversation.messages.push(message);
  message.view = messageView(message);
  if (conversation !== current)
    return;
  $("messages").append(message.view);
  $("empty").hidden = true;
}

const isLast = (message) => conversations.some(({messages}) => messages.at(-1) === message);

function messageView(message) {
  if (message.role === "user" || message.role === "tool") {
    const view = make("article", message.role, make("span", message.role === "user" ? "hidden" : "who",
                                                    message.role === "user" ? "You: " : "Result"));
    view.append(message.content);
    return view;
  }
  const view = make("article", "assistant");
  const parts = message.parts = {
    reasoning: make("details", "reasoning"),
    thought: make("div", "text"),
    text: make("div", "text"),
    calls: make("div"),
    failure: make("div"),
    foot: make("div", "foot")
  };
  parts.reasoning.hidden = true;
  parts.reasoning.append(make("summary", ""), parts.thought);
  parts.thoughtView = new MarkdownView(parts.thought);
  parts.textView = new MarkdownView(parts.text);
  parts.shownCalls = "";
  view.append(make("span", "who", message.model || "Answer"), parts.reasoning, parts.text, parts.calls, parts.failure,
              parts.foot);
  return view;
}

/* Draws an answer as it is now. */
function refresh(message) {
  const {parts, view} = message;
  view.setAttribute("aria-busy", String(message.isPending));
  view.firstChild.textContent = message.model || "Answer";
  parts.reasoning.hidden = !message.reasoning;
  if (message.reasoning) {
    const isThinking = message.isPending && !message.content && !message.tool_calls.length;
    parts.reasoning.firstChild.textContent = isThinking ? "Thinking…" : "Thought before answering";
    parts.thoughtView.show(message.reasoning);
  }
  parts.textView.show(message.content);
  parts.text.classList.toggle("pending", message.isPending && !message.content);
  showCalls(message);
  if (!message.isPending)
    showEnd(message);
}

function showCalls(message) {
  const shown = JSON.stringify(message.tool_calls) + message.isPending;
  if (shown === message.parts.shownCalls)
    return;
  message.parts.shownCalls = shown;
  const wantsResults = isLast(message) && !message.isPending && message.finish === "tool_calls";
  const fields = [];
  const nodes = message.tool_calls.map((call) => {
    const box = make("div", "call", make("span", "who", "Calls a tool"), make("code", "", call.function.name || "…"),
                     make("pre", "", pretty(call.function.arguments)));
    if (wantsResults) {
      const field = make("textarea");
      field.rows = 2;
      fields.push({call, field});
      box.append(make("label", "field", "Result, as the model gets it", field));
    }
    return box;
  });
  if (fields.length)
    nodes.push(make("div", "results", button("Send results", () => sendResults(fields))));
  message.parts.calls.replaceChildren(...nodes);
}

function pretty(json) {
  try {
    return JSON.stringify(JSON.parse(json), null, 2);
  } catch {
    return json;
  }
}

function showEnd(message) {
  const {parts} = message;
  parts.failure.replaceChildren();
  if (message.failure) {
    const {title, text} = message.failure;
    const box = make("div", "failure", make("strong", "", title), text);
    box.setAttribute("role", "alert");
    if (isLast(message))
      box.append(message.failure.wantsKey ? keyForm(retry) : make("div", "", button("Try again", retry)));
    parts.failure.append(box);
  }
  const facts = describe(message).map((fact) => make("span", fact === "unverified" ? "mark" : "", fact));
  const actions = make("span", "actions");
  if (message.content && navigator.clipboard) {
    const copy = button("Copy", () => navigator.clipboard.writeText(message.content).then(() => flash(copy, "Copied"), () => {}),
                        "", "Copy this answer");
    actions.append(copy);
  }
  if (isLast(message) && !message.failure)
    actions.append(button("Regenerate", retry));
  parts.foot.replaceChildren(actions, ...facts);
  if (message.seed && message.draws) /* at temperature 0 it decides nothing */
    parts.foot.append(make("span", "seed", "seed " + message.seed, seedButton(message.seed)));
}

function seedButton(seed) {
  const use = button("Use this seed", () => {
    $("seed").value = seed;
    flash(use, "Set");
    say("Seed set");
  });
  return use;
}

/* What is known about an answer: counts, speed, why it ended. */
function describe(message) {
  const {usage, times} = message, facts = [];
  const few = (value) => value.toLocaleString("en", {maximumFractionDigits: value < 10 ? 2 : value < 100 ? 1 : 0});
  if (usage) {
    const cached = usage.prompt_tokens_details?.cached_tokens ?? 0;
    facts.push(`${few(usage.prompt_tokens)} prompt tokens` + (cached ? ` (${few(cached)} cached)` : ""));
    facts.push(`${few(usage.completion_tokens)} answer tokens`);
  }
  if (times.first) {
    const seconds = (times.last - times.first) / 1000;
    if (usage?.completion_tokens > 1 && seconds > 0.05) /* pieces that came at once tell no speed */
      facts.push(`${few((usage.completion_tokens - 1) / seconds)} tokens/s`);
    facts.push(`first token after ${few((times.first - times.start) / 1000)} s`);
  }
  const ends = {length: "cut at the token limit", stopped: "stopped", content_filter: "withheld by a filter"};
  if (ends[message.finish])
    facts.push(ends[message.finish]);
  if (message.isUnverified)
    facts.push("unverified");
  return facts;
}

/* Asking */

/* What the model gets: earlier answers that failed without a word are left out, and so is what was thought. */
function history(messages) {
  const out = [];
  const system = $("system").value.trim();
  if (system)
    out.push({role: "system", content: system});
  for (const {role, content, tool_calls, tool_call_id} of messages) {
    if (role === "assistant" && !content && !tool_calls?.length)
      continue;
    out.push({role, content: content || (tool_calls?.length ? null : ""), ...(tool_calls?.length ? {tool_calls} : {}),
              ...(tool_call_id ? {tool_call_id} : {})});
  }
  return out;
}

function take(message, chunk) {
  const choice = chunk.choices?.find((one) => (one.index ?? 0) === 0), delta = choice?.delta ?? {};
  if (chunk.model)
    message.model = chunk.model;
  if (chunk.usage)
    message.usage = chunk.usage;
  if (chunk.bulla?.verified === false)
    message.isUnverified = true;
  const thought = delta.reasoning_content ?? delta.reasoning;
  if (typeof thought === "string")
    message.reasoning += thought;
  if (typeof delta.content === "string")
    message.content += delta.content;
  for (const piece of delta.tool_calls ?? []) {
    const call =
      message.tool_calls[piece.index ?? 0] ??= {id: "", type: "function", function: {name: "", arguments: ""}};
    call.id ||= piece.id ?? "";
    call.function.name ||= piece.function?.name ?? "";
    call.function.arguments += piece.function?.arguments ?? "";
  }
  if (thought || delta.content || delta.tool_calls) {
    message.times.last = performance.now();
    message.times.first ??= message.times.last;
  }
  if (choice?.finish_reason)
    message.finish = choice.finish_reason;
}

function explain(problem) {
  const wait = problem.retryAfter ? ` Try again in ${problem.retryAfter} s.` : "";
  const titles = {
    401: "The server wants an API key",
    403: "This key may not do that",
    404: "Not found",
    413: "Too long",
    429: "Too many requests",
    503: "The server is busy or not ready"
  };
  const title =
    titles[problem.status] ??
    (problem.status >= 400 && problem.status < 500 ? "The server refused the request" : "The answer failed");
  return {title, text: problem.message.replace(/[^.!?]$/, "$&.") + wait, wantsKey: problem.status === 401};
}

/* The settings, or null where one stands in the way, which is then shown. */
function settingsOrShow() {
  const settings = takeSettings();
  if (!settings)
    openDrawer("panel");
  return settings;
}

/* Answers the conversation as it stands, and then what waits for that. */
async function send(conversation, settings) {
  const request = {...settings, messages: history(conversation.messages)};
  const message = {
    role: "assistant",
    content: "",
    reasoning: "",
    tool_calls: [],
    isPending: true,
    model: settings.model ?? "",
    draws: settings.temperature !== 0,
    times: {start: performance.now()}
  };
  const controller = conversation.controller = new AbortController();
  append(conversation, message);
  refresh(message);
  if (conversation === current) {
    toEnd();
    showBusy();
  }
  say("Answering");
  server.tick();
  let frame = 0;
  const draw = () => {
    frame = 0;
    if (!message.view.isConnected)
      return;
    const follows = isAtEnd();
    refresh(message);
    follows ? toEnd() : ($("to-end").hidden = false);
  };
  try {
    await streamChat(request, key(), controller.signal,
                     (response) => {
                       message.seed = response.headers.get("x-bulla-seed");
                       message.isUnverified = response.headers.get("x-bulla-verified") === "false";
                     },
                     (chunk) => {
                       take(message, chunk);
                       frame ||= requestAnimationFrame(draw);
                     });
  } catch (problem) {
    if (controller.signal.aborted)
      message.finish = "stopped";
    else
      message.failure = explain(problem instanceof ServerError ? problem : new ServerError(String(problem)));
  }
  if (message.failure)
    server.tick(); /* it may want a key now, or be gone */
  cancelAnimationFrame(frame);
  message.tool_calls = message.tool_calls.filter(Boolean);
  message.isPending = false;
  conversation.controller = null;
  guardUnload();
  if (conversation === current) {
    draw();
    showBusy();
  }
  say(message.failure ? "" : message.finish === "stopped" ? "Stopped" : "Answer complete");
  if (conversation.waiting && !message.failure && message.finish !== "tool_calls")
    ask(conversation, conversation.waiting);
}

/* The last answer's buttons belong to the last one only. */
function settleEarlier(conversation) {
  const last = conversation.messages.findLast((message) => message.role === "assistant");
  if (!last?.view)
    return;
  last.parts.shownCalls = "";
  refresh(last);
}

/* Puts a question to the model; false where a setting stands in the way. */
function ask(conversation, text) {
  const settings = settingsOrShow();
  if (!settings)
    return false;
  if (!conversation.messages.length)
    conversation.title = text.trim().split("\n", 1)[0].slice(0, 60);
  conversation.waiting = "";
  append(conversation, {role: "user", content: text});
  settleEarlier(conversation);
  showConversations();
  send(conversation, settings);
  return true;
}

/* What is in the field is asked; while an answer comes, it waits for that one's end. */
function sendPrompt() {
  const written = $("prompt").value, text = [current.waiting, written].filter((part) => part.trim()).join("\n\n");
  if (!written.trim() && (!text || current.controller))
    return;
  if (server.wantsKey && !current.messages.length) {
    $("key-place").querySelector("input").focus();
    return;
  }
  if (current.controller) {
    current.waiting = text;
    say("The message waits until this answer ends");
  } else if (!ask(current, text)) {
    return;
  }
  $("prompt").value = "";
  fitPrompt();
  showBusy();
}

function editWaiting() {
  $("prompt").value = [current.waiting, $("prompt").value].filter(Boolean).join("\n\n");
  current.waiting = "";
  fitPrompt();
  showBusy();
  $("prompt").focus();
}

function sendResults(fields) {
  const settings = current.controller ? null : settingsOrShow();
  if (!settings)
    return;
  for (const {call, field} of fields)
    append(current, {role: "tool", content: field.value, tool_call_id: call.id});
  settleEarlier(current);
  send(current, settings);
  $("prompt").focus();
}

function retry() {
  const settings = current.controller ? null : settingsOrShow();
  if (!settings)
    return;
  current.messages.pop().view.remove();
  send(current, settings);
  $("prompt").focus();
}

function stop() {
  current.controller?.abort();
}

/* The buttons beside the field, and what waits above it. */
function showBusy() {
  const isBusy = Boolean(current.controller), hadFocus = document.activeElement;
  $("send").hidden = isBusy && !$("prompt").value.trim();
  $("stop").hidden = !isBusy;
  $("waiting").hidden = !current.waiting;
  $("waiting-word").textContent = isBusy ? "Sent when this answer ends:" : "Not sent yet:";
  $("waiting-text").textContent = current.waiting;
  if (hadFocus?.closest("[hidden]"))
    $("prompt").focus();
}

/* Conversations are in this tab only: leaving it asks first. */
function guardUnload() {
  if (isUnloadGuarded)
    return;
  isUnloadGuarded = true;
  addEventListener("beforeunload", (event) => {
    if (conversations.some((conversation) => conversation.messages.length))
      event.preventDefault();
  });
}

function fitPrompt() {
  const prompt = $("prompt");
  prompt.rows = 1;
  const line = parseFloat(getComputedStyle(prompt).lineHeight) || 24;
  prompt.rows = Math.min(12, Math.max(1, Math.round((prompt.scrollHeight - 14) / line)));
}

/* Drawers on narrow screens */

const openers = {sidebar: "open-sidebar", panel: "open-panel"};

function openDrawer(id) {
  closeDrawers();
  $(id).classList.add("open");
  if (getComputedStyle($(id)).position !== "fixed")
    return;
  document.body.classList.add("drawer");
  $("shade").hidden = false;
  $(openers[id]).setAttribute("aria-expanded", "true");
  document.querySelector("main").inert = true;
  document.querySelector(`[data-close=${id}]`).focus();
}

function closeDrawers() {
  for (const id of Object.keys(openers)) {
    const wasOpen = $(openers[id]).getAttribute("aria-expanded") === "true";
    $(id).classList.remove("open");
    $(openers[id]).setAttribute("aria-expanded", "false");
    document.querySelector("main").inert = false;
    if (wasOpen)
      $(openers[id]).focus();
  }
  document.body.classList.remove("drawer");
  $("shade").hidden = true;
}

/* Models, and what stands where a conversation begins: whom one asks, or what is in the way */

function showModels(models) {
  const select = $("model"), before = select.value;
  select.replaceChildren(...models.map((model) => {
    const option = make("option", "", model.id);
    option.value = model.id;
    option.dataset.unverified = String(model.bulla?.verified === false);
    return option;
  }));
  select.hidden = !models.length;
  select.disabled = models.length < 2;
  if (models.some((model) => model.id === before))
    select.value = before;
}

function describeModel() {
  const chosen = $("model").selectedOptions[0];
  if (!server.isKnown)
    return "Connecting…";
  if (!server.isReached)
    return "The server cannot be reached.";
  if (!chosen)
    return "The server has told no model yet.";
  return chosen.dataset.unverified === "true" ? "This model runs on another server: its answers are unverified."
                                              : "Answers come from this server only.";
}

function showStart() {
  const place = $("key-place"), input = place.querySelector("input");
  const isAsked = !place.hidden, hasFocus = place.contains(document.activeElement);
  $("empty-title").textContent = server.wantsKey ? "This server wants an API key" : "Ask something";
  $("empty-text").textContent = server.wantsKey ? "Whoever runs the server can give you one." : describeModel();
  $("key-problem").textContent = server.keyProblem;
  $("key-problem").hidden = !server.keyProblem;
  place.hidden = !server.wantsKey;
  if (server.wantsKey && !isAsked && document.activeElement === $("prompt") && !$("prompt").value)
    input.focus();
  if (!server.wantsKey && isAsked) {
    input.value = "";
    if (hasFocus)
      $("prompt").focus();
  }
}

function start() {
  startKey(() => server.tick());
  $("key-place").append(keyForm(() => {}));
  server = new ServerState({
    key,
    isAnswering: () => conversations.some((conversation) => conversation.controller),
    onModels: showModels,
    onState: showStart
  });
  showStart();
  $("compose").addEventListener("submit", (event) => {
    event.preventDefault();
    sendPrompt();
  });
  $("settings").addEventListener("submit", (event) => event.preventDefault());
  $("settings").addEventListener("input", () => showSettingsProblem(""));
  $("prompt").addEventListener("input", () => {
    fitPrompt();
    showBusy();
  });
  $("prompt").addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing && event.keyCode !== 229) {
      event.preventDefault();
      sendPrompt();
    }
  });
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || event.isComposing)
      return;
    if (document.body.classList.contains("drawer"))
      closeDrawers();
    else
      stop();
  });
  $("stop").addEventListener("click", stop);
  $("edit-waiting").addEventListener("click", editWaiting);
  $("model").addEventListener("change", showStart);
  $("new-chat").addEventListener("click", () => {
    closeDrawers();
    newConversation();
  });
  $("export").addEventListener("click", exportConversations);
  $("to-end").addEventListener("click", toEnd);
  $("log").addEventListener("scroll", () => isAtEnd() && ($("to-end").hidden = true));
  $("open-sidebar").addEventListener("click", () => openDrawer("sidebar"));
  $("open-panel").addEventListener("click", () => openDrawer("panel"));
  $("shade").addEventListener("click", closeDrawers);
  document.querySelectorAll("[data-close]").forEach((node) => node.addEventListener("click", closeDrawers));
  matchMedia("(max-width: 72rem)").addEventListener("change", closeDrawers);
  newConversation();
}

start();
