/* The page in Chromium, against the stand-in server (stand_in.mjs) or, where BULLA_PAGE_URL is set, against a real one
 * with one small model. Prints what does not hold and, last, "N checks".
 *
 * environment: BULLA_NODE_PACKAGES  folder with node_modules (scripts/node-modules)
 *              BULLA_CHROMIUM       the browser
 *              BULLA_PAGE_URL       or unset */
import {readFileSync} from "node:fs";
import {createRequire} from "node:module";
import {check, finish} from "./checks.mjs";
import {startStandIn} from "./stand_in.mjs";

const {chromium} = createRequire(process.env.BULLA_NODE_PACKAGES + "/")("playwright-core");
const WIDE = {
  viewport: {width: 1440, height: 900}
},
      PHONE = {
        viewport: {width: 390, height: 780},
        isMobile: true,
        hasTouch: true
      };

/* The same whatever the order of an object's members. */
const text = (value) =>
  JSON.stringify(value, (key, inner) => inner && typeof inner === "object" && !Array.isArray(inner)
                                          ? Object.fromEntries(Object.entries(inner).sort())
                                          : inner);

function equal(found, expected, what) {
  check(text(found) === text(expected),
        `${what}\n  found    ${JSON.stringify(found)}\n  expected ${JSON.stringify(expected)}`);
}

const browser =
  await chromium.launch({executablePath: process.env.BULLA_CHROMIUM, args: ["--no-sandbox", "--disable-gpu"]});

const hasState = (page, state) =>
  page.waitForFunction((state) => document.getElementById("state-word").textContent === state, state);

/* A page whose policy violations, errors and requests to elsewhere are noted. */
async function open(url, options = WIDE, state = "Ready") {
  const context = await browser.newContext(options), page = await context.newPage();
  page.setDefaultTimeout(20000);
  page.troubles = [];
  page.on("pageerror", (problem) => page.troubles.push("error: " + problem.message));
  page.on("request", (request) => request.url().startsWith(url) || /^(data|blob):/.test(request.url()) ||
                                  page.troubles.push("asks " + request.url()));
  page.on("console",
          (message) => /Content Security Policy|Refused to/.test(message.text()) && page.troubles.push(message.text()));
  page.on("dialog", (dialog) => dialog.accept());
  await page.goto(url);
  await hasState(page, state);
  return page;
}

async function close(page, what) {
  equal(page.troubles, [], `${what}: policy violations, errors, requests to elsewhere`);
  await page.context().close();
}

/* Whether it becomes visible: what slides in is not so at once. */
const appears = (page, selector) =>
  page.locator(selector).waitFor({state: "visible"}).then(() => true, () => false);

/* Sends by Enter and waits for the answer's end; gives the last answer's locator. */
async function ask(page, text) {
  const before = await page.locator("article.assistant").count();
  await page.fill("#prompt", text);
  await page.press("#prompt", "Enter");
  await page.locator("article.assistant").nth(before).waitFor();
  return last(page);
}

async function last(page) {
  await page.waitForFunction(
    () => document.querySelector("article.assistant:last-of-type")?.getAttribute("aria-busy") === "false" ||
          [...document.querySelectorAll("article.assistant")].at(-1)?.getAttribute("aria-busy") === "false");
  return page.locator("article.assistant").last();
}

const foot = (answer) => answer.locator(".foot").innerText();

async function testAnswers(server) {
  const page = await open(server.url);
  equal(await page.locator("#model option").allTextContents(), ["small-model", "elsewhere-model"],
        "models come from /v1/models");
  equal(await page.evaluate(() => document.activeElement.id), "prompt", "the message field has the focus at first");
  let answer = await ask(page, "hello");
  equal(await answer.locator(".text").nth(1).innerText(), "You said: hello", "the answer");
  check(/21 prompt tokens \(16 cached\)/.test(await foot(answer)) && /7 answer tokens/.test(await foot(answer)),
        "token counts");
  check(/first token after [\d.]+ s/.test(await foot(answer)) && /seed 13835058055282163713/.test(await foot(answer)),
        "time to first token, seed");
  const plain = {model: "small-model", messages: [{role: "user", content: "hello"}], stream: true,
                 stream_options: {include_usage: true}};
  equal(server.requests.at(-1), {...plain, temperature: 0.7, top_p: 0.95, max_tokens: 1024},
        "what the fields show at first is sent, and nothing else");
  for (const name of ["temperature", "top_p", "max_tokens"])
    await page.fill("#" + name, "");
  await page.click("#new-chat");
  answer = await ask(page, "hello");
  equal(server.requests.at(-1), plain, "nothing is sent of empty fields");
  await page.fill("#temperature", "0");
  check(!/seed/.test(await foot(await ask(page, "hello"))), "no seed where nothing is drawn");
  await page.click("#new-chat");
  await page.fill("#temperature", "");
  await ask(page, "hello");
  answer = await ask(page, "markdown");
  equal(await answer.locator(".text strong").allTextContents(), ["bold"], "bold");
  equal(await answer.locator(".text em").allTextContents(), ["italic"], "italic");
  equal(await answer.locator(".text ol > li").count(), 3, "a list");
  equal(await answer.locator(".text li li").count(), 2, "a list inside");
  equal(await answer.locator("pre code").innerText(), 'def f(x):\n    return "<script>alert(1)</script>"',
        "a code block");
  check(
    (await answer.locator(".text").nth(1).innerText()).includes("with a <b>tag</b> and snake_case_names, 2 * 3 * 4."),
    "plain text stays");
  equal(server.requests.at(-1).messages.map((message) => message.role), ["user", "assistant", "user"],
        "the conversation is sent");
  answer = await ask(page, "hostile");
  equal(await page.title(), "Bulla", "an answer's HTML does not run");
  equal(await answer.locator("img, script, iframe, a, style").count(), 0, "an answer's HTML does not become elements");
  check((await answer.innerText()).includes("<img src=x onerror="), "an answer's HTML is shown as text");
  answer = await ask(page, "think");
  equal(await answer.locator("details").getAttribute("open"), null, "reasoning is folded");
  await answer.locator("summary").click();
  equal(await answer.locator("details .text").innerText(), "Let me see. The user wants something.", "reasoning");
  answer = await ask(page, "split bytes");
  equal(await answer.locator(".text").nth(1).innerText(), "Größe 🏺 done", "an answer cut at every byte");
  answer = await ask(page, "unverified");
  check(/unverified/.test(await foot(answer)), "an unverified answer is marked");
  await close(page, "answers");
}

async function testTools(server) {
  const page = await open(server.url);
  await page.click("summary:has-text('More sampling')");
  await page.fill("#tools", "{}");
  await page.fill("#prompt", "use a tool");
  await page.press("#prompt", "Enter");
  equal(await page.locator("#settings-problem").innerText(), "Tools: expected a list, [ … ].",
        "tools that are no list");
  equal(await page.locator("article").count(), 0, "nothing is sent then");
  await page.fill("#tools", '[{"type":"function","function":{"name":"get_weather"}}]');
  let answer = await ask(page, "use a tool");
  equal(server.requests.at(-1).tools, [{type: "function", function: {name: "get_weather"}}], "tools are sent");
  equal(await answer.locator(".call code").innerText(), "get_weather", "a call's name");
  equal(JSON.parse(await answer.locator(".call pre").innerText()), {city: "Uruk"}, "a call's arguments");
  await page.getByLabel("Result, as the model gets it").fill("sunny");
  await page.click("text=Send results");
  await page.locator("article.assistant").nth(1).waitFor();
  answer = await last(page);
  equal(await answer.locator(".text").nth(1).innerText(), "It is sunny in Uruk.", "the answer after the result");
  equal(
    server.requests.at(-1).messages.slice(1),
    [
      {
        role: "assistant",
        content: null,
        tool_calls: [{id: "call_1", type: "function", function: {name: "get_weather", arguments: '{"city":"Uruk"}'}}]
      },
      {role: "tool", content: "sunny", tool_call_id: "call_1"}
    ],
    "call and result are sent");
  equal(await page.locator("text=Send results").count(), 0, "results are sent once");
  await close(page, "tools");
}

async function testSettings(server) {
  const page = await open(server.url);
  await page.click("summary:has-text('More sampling')");
  await page.fill("#system", "Be brief.");
  const values = {temperature: 0.7, top_p: 0.9, top_k: 40, min_p: 0.05, max_tokens: 64, seed: 7};
  for (const [name, value] of Object.entries(values))
    await page.fill("#" + name, String(value));
  const penalties = {presence_penalty: 0.5, frequency_penalty: -0.25, repetition_penalty: 1.1};
  for (const [name, value] of Object.entries(penalties))
    await page.fill("#" + name, String(value));
  await page.selectOption("#model", "elsewhere-model");
  check((await page.locator("#empty-text").innerText()).includes("unverified"), "an unverified model says so");
  await ask(page, "hello");
  equal(server.requests.at(-1), {
    ...values,
    ...penalties,
    model: "elsewhere-model",
    stream: true,
    stream_options: {include_usage: true},
    messages: [{role: "system", content: "Be brief."}, {role: "user", content: "hello"}]
  },
        "settings are sent");
  await page.fill("#temperature", "-1");
  await page.fill("#prompt", "again");
  await page.press("#prompt", "Enter");
  check((await page.locator("#settings-problem").innerText()).startsWith("Temperature: "),
        "a value out of range is named");
  equal(await page.locator("article.user").count(), 1, "nothing is sent then");
  await close(page, "settings");
}

/* Seeds have 64 bits, of which a number of JavaScript would keep 53. */
async function testSeeds(server) {
  const page = await open(server.url), sent = () => /"seed":([^,}]*)/.exec(server.state.text)?.[1];
  let answer = await ask(page, "hello");
  equal(sent(), undefined, "no seed is sent where none is given");
  await answer.getByRole("button", {name: "Use this seed"}).click();
  equal(await page.inputValue("#seed"), "13835058055282163713", "an answer's seed becomes the setting");
  await ask(page, "hello");
  equal(sent(), "13835058055282163713", "a seed is sent as it is");
  for (const [typed, digits] of [["18446744073709551615", "18446744073709551615"], ["9007199254740993", "9007199254740993"],
                                 ["0", "0"], [" 007 ", "7"]]) {
    await page.fill("#seed", typed);
    await ask(page, "hello");
    equal(sent(), digits, `the seed "${typed}"`);
  }
  const asked = server.requests.length;
  for (const wrong of ["18446744073709551616", "1e5", "-1", "0x10", "seven"]) {
    await page.fill("#seed", wrong);
    await page.fill("#prompt", "hello");
    await page.press("#prompt", "Enter");
    check((await page.locator("#settings-problem").innerText()).startsWith("Seed: expected"), `the seed "${wrong}"`);
  }
  equal(server.requests.length, asked, "nothing is sent then");
  await close(page, "seeds");
}

async function testKeys(server) {
  const page = await open(server.url);
  await page.fill("#prompt", "one");
  await page.press("#prompt", "Shift+Enter");
  await page.keyboard.type("two");
  equal(await page.inputValue("#prompt"), "one\ntwo", "Shift+Enter begins a line");
  await page.fill("#prompt", "slow");
  await page.press("#prompt", "Enter");
  await page.waitForFunction(() => document.querySelector("article.assistant")?.innerText.includes("word word"));
  check(await page.locator("#stop").isVisible() && !(await page.locator("#send").isVisible()),
        "a stop button while it answers");
  await page.press("#prompt", "Escape");
  const answer = await last(page);
  check(/stopped/.test(await foot(answer)), "Esc stops");
  check((await answer.innerText()).includes("word word"), "what came stays");
  await page.waitForTimeout(200);
  equal(server.state.hungUp, true, "the server sees the connection closed");
  check(await page.locator("#send").isVisible(), "sending is possible again");
  await page.fill("#prompt", "slow");
  await page.press("#prompt", "Enter");
  await page.click("#stop");
  await last(page);
  equal(await page.evaluate(() => document.activeElement.id), "prompt", "the focus is in the message field after Stop");
  await close(page, "keys");
}

async function testWaiting(server) {
  const page = await open(server.url), shown = () => page.locator("#waiting-text").innerText();
  const write = async (text) => {
    await page.fill("#prompt", text);
    await page.press("#prompt", "Enter");
  };
  await write("slow");
  await page.waitForFunction(() => document.querySelector("article.assistant")?.innerText.includes("word word"));
  const asked = server.requests.length;
  await page.fill("#prompt", "first");
  check(await page.locator("#send").isVisible() && await page.locator("#stop").isVisible(),
        "while an answer comes, one can stop it and send");
  await page.click("#send");
  equal(await page.locator("#waiting").innerText().then((text) => text.split("\n")[0]), "Sent when this answer ends:",
        "what is sent meanwhile waits, and says so");
  equal([await shown(), await page.inputValue("#prompt"), server.requests.length], ["first", "", asked], "it waits");
  await write("second");
  equal(await page.locator("#waiting-text").textContent(), "first\n\nsecond", "one more joins it");
  await page.click("#edit-waiting");
  equal([await page.inputValue("#prompt"), await page.locator("#waiting").isVisible()], ["first\n\nsecond", false],
        "it can be changed");
  await write("third");
  await page.press("#prompt", "Escape");
  await page.locator("article.assistant").nth(1).waitFor();
  equal(await (await last(page)).locator(".text").nth(1).innerText(), "You said: third", "it is sent when the answer ends");
  equal([server.requests.length, server.requests.at(-1).messages.map((message) => message.role)],
        [asked + 1, ["user", "assistant", "user"]], "once, after it");
  equal(await page.locator("#waiting").isVisible(), false, "then nothing waits");
  await write("breaks when told");
  await page.waitForFunction(() => document.querySelectorAll("article.assistant")[2]?.innerText.includes("waits"));
  await write("after that");
  server.state.isTold = true;
  await (await last(page)).locator(".failure").waitFor();
  equal([await page.locator("#waiting-word").innerText(), await shown()], ["Not sent yet:", "after that"],
        "where the answer fails it stays");
  await page.click("#send");
  await page.locator("article.assistant").nth(3).waitFor();
  equal(await (await last(page)).locator(".text").nth(1).innerText(), "You said: after that", "until it is sent");
  server.state.isTold = false;
  await write("ends when told");
  await page.waitForFunction(() => document.querySelectorAll("article.assistant")[4]?.innerText.includes("waits"));
  await write("behind");
  await page.click("#new-chat");
  equal(await page.locator("#waiting").isVisible(), false, "what waits belongs to its conversation");
  server.state.isTold = true;
  while (server.requests.at(-1).messages.at(-1).content !== "behind")
    await page.waitForTimeout(10);
  equal(await page.locator("article").count(), 0, "and goes on there, also while another one is seen");
  await page.locator(".pick").nth(1).click();
  await page.locator("article.assistant").nth(5).waitFor();
  equal(await (await last(page)).locator(".text").nth(1).innerText(), "You said: behind", "it has its answer");
  await close(page, "what waits");
}

async function testOneModel(server) {
  const models = server.state.models;
  server.state.models = models.slice(0, 1);
  const page = await open(server.url), style = await page.locator("#model").evaluate((node) => getComputedStyle(node).appearance);
  equal([await page.locator("#model").isVisible(), await page.locator("#model").isEnabled(), style], [true, false, "none"],
        "one model is a name, with nothing to choose");
  server.state.models = models;
  await close(page, "one model");
}

async function testTabOrder(server) {
  const page = await open(server.url), order = [];
  await ask(page, "hello");
  await page.focus("#new-chat");
  for (let i = 0; i < 30; i++) {
    await page.keyboard.press("Tab");
    order.push(await page.evaluate(() => document.activeElement.id || document.activeElement.className));
  }
  const places =
    ["export", "model", "prompt", "temperature", "system", "key"].map((id) => order.indexOf(id));
  check(places.every((place, at) => place >= 0 && (at === 0 || place > places[at - 1])), `the order of Tab: ${order}`);
  await close(page, "the order of Tab");
}

async function testFailures(server) {
  const page = await open(server.url);
  const cases = [
    ["broken", "The answer failed", "The connection broke before the answer was finished."],
    ["cut", "The answer failed", "The connection broke before the answer was finished."],
    ["garbage", "The answer failed", "The connection broke before the answer was finished."],
    ["error inside", "The answer failed", "the cache is full."],
    ["too many", "Too many requests", "1 request is allowed at a time. Try again in 7 s."],
    ["busy", "The server is busy or not ready", "no place is free. Try again in 2 s."],
    ["refused", "The server refused the request", "temperature: 101 is more than 100."],
  ];
  for (const [prompt, title, text] of cases) {
    const failure = (await ask(page, prompt)).locator(".failure");
    equal((await failure.innerText()).split("\n").filter(Boolean), [title, text, "Try again"], prompt);
    equal(await failure.getAttribute("role"), "alert", prompt + ": it is announced");
  }
  equal(await page.locator("button:has-text('Try again')").count(), 1, "only the last can be tried again");
  const asked = server.requests.length, shown = await page.locator("article").count();
  await page.click("button:has-text('Try again')");
  await last(page);
  equal([server.requests.length, await page.locator("article").count()], [asked + 1, shown],
        "trying again takes the answer's place");
  check(!server.requests.at(-1).messages.some((message) => message.role === "assistant" && !message.content),
        "answers without a word are not sent");
  await close(page, "failures");
}

async function testConversations(server) {
  const page = await open(server.url);
  await ask(page, "first");
  await page.click("#new-chat");
  equal(await page.locator("article").count(), 0, "a new conversation is empty");
  await page.fill("#prompt", "slow");
  await page.press("#prompt", "Enter");
  await page.locator(".pick", {hasText: "first"}).click();
  check((await page.locator("#messages").innerText()).includes("You said: first"), "back to the first");
  await ask(page, "still here");
  equal(server.requests.at(-1).messages.length, 3, "each conversation has its own messages");
  await page.locator(".pick", {hasText: "slow"}).click();
  await page.waitForFunction(() => document.querySelector("article.assistant")?.innerText.includes("word word"));
  await page.press("#prompt", "Escape");
  await last(page);
  const [download] = await Promise.all([page.waitForEvent("download"), page.click("#export")]);
  const exported = JSON.parse(readFileSync(await download.path(), "utf8"));
  equal(exported.map((one) => one.title), ["slow", "first"], "conversations are exported");
  equal(exported[1].messages[1].content, "You said: first", "with their messages");
  await page.getByLabel("Delete “slow”").click();
  equal(await page.locator(".pick").allTextContents(), ["first"], "a conversation is deleted");
  const stored = await page.evaluate(() => [Object.keys(localStorage), Object.keys(sessionStorage), document.cookie]);
  equal(stored, [[], [], ""], "nothing is stored");
  await close(page, "conversations");
}

async function testServerPanel(server) {
  const page = await open(server.url);
  await page.waitForFunction(() => document.getElementById("server-rate").textContent !== "–");
  const text = Object.fromEntries(
    await page.$$eval("#server div", (rows) => rows.map((row) => [...row.children].map((cell) => cell.textContent))));
  check(Number(text["Tokens/s"]) > 0, "tokens a second");
  delete text["Tokens/s"];
  equal(
    text,
    {State: "Ready", Version: "0.1.0", Running: "3", Waiting: "4", "Cache in use": "38 %", "Prompt from cache": "25 %"},
    "the server's state");
  equal(await page.locator("#server-models li").allInnerTexts(),
        ["small-model\ncontext 8,192 · root 7c4f6f082950969c…", "elsewhere-model\ncontext 32,768 · unverified"],
        "models");
  server.state.ready = false;
  await hasState(page, "Not ready");
  equal(await page.locator("#server-state").innerText(), "no model is ready yet", "why it is not ready");
  server.state.ready = true;
  await close(page, "the server's state");
}

/* How often the page asks, and for what. Its long timers do not run by themselves here. */
async function testPolls(server) {
  const {state} = server, context = await browser.newContext(WIDE), page = await context.newPage();
  await page.addInitScript(() => {
    const plain = window.setTimeout;
    window.waits = [];
    window.setTimeout = (call, milliseconds, ...more) =>
      milliseconds < 3000 ? plain(call, milliseconds, ...more) : 1e9 + window.waits.push({call, milliseconds});
  });
  const waits = (count) => page.waitForFunction((count) => window.waits.length === count, count);
  const delay = () => page.evaluate(() => window.waits.at(-1).milliseconds);
  const later = () => {
    state.asked.length = 0;
    return page.evaluate(() => window.waits.at(-1).call());
  };
  const setHidden = (isHidden) => page.evaluate((isHidden) => {
    Object.defineProperty(document, "hidden", {value: isHidden, configurable: true});
    return document.dispatchEvent(new Event("visibilitychange"));
  }, isHidden);
  state.asked.length = 0;
  await page.goto(server.url);
  await waits(1);
  equal([state.asked, await delay()], [["/metrics", "/v1/models"], 4000], "at first: the metrics and the models");
  state.running = 0;
  await later();
  await waits(2);
  equal([state.asked, await delay()], [["/metrics"], 10000], "one request, and more seldom when nothing runs");
  const models = state.models;
  state.models = models.slice(0, 1);
  await later();
  await waits(3);
  equal([state.asked, await page.locator("#server-models li").count()], [["/metrics", "/v1/models"], 1],
        "the models when there are others");
  state.models = models;
  state.ready = false;
  await later();
  await waits(4);
  equal([state.asked.sort(), await page.locator("#server-state").innerText()],
        [["/metrics", "/ready", "/v1/models"], "no model is ready yet"], "why not, while some model is not ready");
  state.ready = true;
  state.asked.length = 0;
  await setHidden(true);
  await later();
  equal([state.asked, await page.evaluate(() => window.waits.length)], [[], 4], "nothing while the page is hidden");
  await setHidden(false);
  await waits(5);
  equal(state.asked, ["/metrics", "/v1/models"], "it looks when it is seen again");
  state.key = "secret";
  await later();
  await hasState(page, "Key needed");
  equal([state.asked, await page.evaluate(() => window.waits.length)], [["/metrics"], 5], "nothing more without a key");
  state.key = "";
  state.running = 2;
  await context.close();
}

async function testKeyAsked(server) {
  const asked = server.requests.length;
  server.state.key = "secret";
  let page = await open(server.url, PHONE, "Key needed");
  equal(await page.locator("#empty-title").innerText(), "This server wants an API key", "a key is asked for in the middle");
  equal(await page.locator("#model").isVisible(), false, "there is no model to choose yet");
  await page.fill("#prompt", "hello");
  await page.press("#prompt", "Enter");
  const field = page.locator("#key-place input");
  check(await field.evaluate((node) => node === document.activeElement), "sending goes to the key's field");
  equal([server.requests.length, await page.inputValue("#prompt")], [asked, "hello"], "nothing is sent or lost");
  await field.fill("wrong");
  await field.press("Enter");
  await page.locator("#key-problem").waitFor();
  equal(await page.locator("#key-problem").innerText(), "The key is missing or wrong.", "what is wrong with the key");
  await field.fill("secret");
  await page.click("#key-place button");
  await hasState(page, "Ready");
  equal([await page.locator("#empty-title").innerText(), await field.isVisible(), await page.inputValue("#model")],
        ["Ask something", false, "small-model"], "with the key all is there");
  await page.press("#prompt", "Enter");
  equal(await (await last(page)).locator(".text").nth(1).innerText(), "You said: hello", "and it answers");
  equal(await page.evaluate(() => [Object.keys(localStorage), sessionStorage.getItem("bulla-key"), document.cookie]),
        [[], "secret", ""], "the key is kept for this tab only");
  server.state.key = "another";
  const failure = (await ask(page, "once more")).locator(".failure");
  equal((await failure.innerText()).split("\n")[0], "The server wants an API key", "a key is asked for in a conversation");
  await hasState(page, "Key needed");
  await failure.getByLabel("API key").fill("another");
  await failure.getByRole("button").click();
  await failure.waitFor({state: "detached"});
  equal(await (await last(page)).locator(".text").nth(1).innerText(), "You said: once more", "then it answers there");
  await close(page, "the key");
  page = await open(server.url, WIDE, "Key needed");
  check(await page.locator("#key-place input").evaluate((node) => node === document.activeElement),
        "the key's field has the focus where nothing was written");
  equal(await page.evaluate(lowContrast), [], "its text has contrast");
  server.state.key = "";
  await close(page, "the key at first");
}

async function testPhone(server) {
  const page = await open(server.url, PHONE);
  const fits = () => page.evaluate(() => document.documentElement.scrollWidth <= innerWidth);
  check(await fits(), "a phone's width is enough");
  equal(await page.locator("#panel").isVisible(), false, "the settings are folded away");
  await page.click("#open-panel");
  check(await appears(page, "#temperature"), "a gear opens them");
  for (const id of ["temperature", "seed", "system", "key", "server-state"]) {
    const box = await page.locator("#" + id).boundingBox();
    check(box.y >= 0 && box.y + box.height <= 780, `#${id} is seen without scrolling: ${JSON.stringify(box)}`);
  }
  await page.keyboard.press("Escape");
  await ask(page, "markdown");
  check(await fits(), "an answer fits a phone's width");
  await page.click("#open-panel");
  check(await appears(page, "#temperature"), "the settings open");
  equal(await page.getAttribute("#open-panel", "aria-expanded"), "true", "and say so");
  await page.keyboard.press("Escape");
  await page.locator("#panel").waitFor({state: "hidden"});
  equal(await page.evaluate(() => document.activeElement.id), "open-panel",
        "Esc closes them, and the focus comes back");
  await page.click("#open-sidebar");
  check(await appears(page, "#new-chat"), "the conversations open");
  await page.click("#new-chat");
  await page.locator("#sidebar").waitFor({state: "hidden"});
  equal(await page.locator("article").count(), 0, "a new conversation from there");
  await close(page, "a phone");
}

/* WCAG 2.2 contrast of all visible text against what lies behind it. */
const lowContrast = () => {
  const parse = (color) => color.match(/[\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((c) => (c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
    .reduce((sum, c, at) => sum + c * [0.2126, 0.7152, 0.0722][at], 0);
  const behind = (node) => {
    for (; node; node = node.parentElement) {
      const color = parse(getComputedStyle(node).backgroundColor);
      if (color.length < 4 || color[3] === 1)
        return color;
    }
    return [255, 255, 255];
  };
  const found = [];
  for (const node of document.querySelectorAll("body *")) {
    const hasText = [...node.childNodes].some((child) => child.nodeType === 3 && child.textContent.trim());
    if (!hasText || !node.checkVisibility({opacityProperty: true}) ||
        node.closest(".hidden, :disabled, .skip, noscript, option, .drop"))
      continue;
    const [a, b] = [light(parse(getComputedStyle(node).color)), light(behind(node))].sort((x, y) => y - x);
    if ((a + 0.05) / (b + 0.05) < 4.5)
      found.push(`${node.tagName}.${node.className} ${((a + 0.05) / (b + 0.05)).toFixed(2)}`);
  }
  return found;
};

const unnamed = () => [...document.querySelectorAll("button, input, select, textarea, summary, [role=img], [role=log]")]
                        .filter((node) => node.checkVisibility() &&
                                          !(node.getAttribute("aria-label") || node.labels?.[0]?.textContent.trim() ||
                                            node.textContent.trim()))
                        .map((node) => node.outerHTML.slice(0, 80));

async function testAccess(server) {
  for (const colorScheme of ["light", "dark"]) {
    const page = await open(server.url, {...WIDE, colorScheme});
    for (const prompt of ["think", "unverified", "markdown", "use a tool", "refused"])
      await ask(page, prompt);
    await page.evaluate(() => document.querySelectorAll("details").forEach((node) => (node.open = true)));
    equal(await page.evaluate(lowContrast), [], `${colorScheme}: text against its ground is at least 4.5 to 1`);
    equal(await page.evaluate(unnamed), [], `${colorScheme}: every control has a name`);
    equal(await page.getAttribute("#log", "aria-live"), "polite", "answers are announced");
    equal(await page.locator("#said").innerText(), "", "a failure is announced by itself");
    equal(await page.evaluate(() => new Set([...document.querySelectorAll("[id]")].map((node) => node.id)).size ===
      document.querySelectorAll("[id]").length), true, "ids are there once");
    await close(page, colorScheme);
  }
}

async function testFiles(url) {
  const answer = await fetch(url);
  equal(
    answer.headers.get("content-security-policy"),
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; base-uri 'none'; " +
      "form-action 'none'; frame-ancestors 'none'",
    "the page's policy");
  const html = await answer.text();
  check(!/<script(?![^>]*\ssrc=)|<style|\sstyle=|\son\w+=/i.test(html), "no inline scripts, styles or handlers");
  for (const [, file] of html.matchAll(/(?:src|href)="(page\/[^"]+)"/g))
    equal((await fetch(new URL(file, url))).status, 200, file);
}

/* What any Bulla server with a small model must show. */
async function testReal(url) {
  await testFiles(url);
  const page = await open(url);
  await page.fill("#max_tokens", "24");
  await page.fill("#temperature", "0");
  let answer = await ask(page, "Tell me the capital of France.");
  equal(await answer.locator(".failure").count(), 0, "an answer without failure");
  const first = await answer.locator(".text").nth(1).innerText();
  check(first.length > 0, "an answer with text");
  check(/\d+ prompt tokens/.test(await foot(answer)) && /\d+ answer tokens/.test(await foot(answer)),
        "token counts: " + await foot(answer));
  await page.click("button:has-text('Regenerate')");
  answer = await last(page);
  equal(await answer.locator(".text").nth(1).innerText(), first, "the same answer again");
  await page.fill("#temperature", "1");
  await page.fill("#seed", "18446744073709551615");
  answer = await ask(page, "And of Italy?");
  check(/seed 18446744073709551615/.test(await foot(answer)), "a seed of 64 bits: " + await foot(answer));
  await page.fill("#max_tokens", "2000");
  await page.fill("#prompt", "Count from 1 to 500.");
  await page.press("#prompt", "Enter");
  await page.waitForFunction(
    () => [...document.querySelectorAll("article.assistant")].at(-1)?.querySelectorAll(".text")[1]?.innerText);
  await page.press("#prompt", "Escape");
  check(/stopped|tokens/.test(await foot(await last(page))), "Esc stops");
  equal(await page.locator("#server-state").innerText(), "Ready", "the server's state");
  check(/^\d/.test(await page.locator("#server-running").innerText()), "requests that run");
  equal(await page.locator("article.assistant").count(), 3, "answers so far");
  await close(page, "a real server");
}

if (process.env.BULLA_PAGE_URL) {
  await testReal(process.env.BULLA_PAGE_URL);
} else {
  const server = await startStandIn();
  await testFiles(server.url);
  for (const test of [testAnswers, testTools, testSettings, testSeeds, testKeys, testWaiting, testOneModel, testTabOrder, testFailures, testConversations, testServerPanel, testPolls,
                      testKeyAsked, testPhone, testAccess]) {
    try {
      await test(server);
    } catch (problem) {
      check(false, `${test.name}: ${problem.stack}`);
    }
  }
  server.close();
}
await browser.close();
finish();
