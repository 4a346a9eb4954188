/* A server that stands in for Bulla's: the page's own files with their policy, and scripted answers, chosen by the last
 * message. It has what the real server does not do on demand: broken streams, slow tokens, refusals.
 *
 *     const server = await startStandIn();   // {url, requests, state, close()}
 *
 * `requests` are the chat requests' bodies, `state` what the other routes say; both may be changed by a test. `state.text`
 * is the last body as it came, `state.asked` the paths asked for but for the page's files. */
import {createServer} from "node:http";
import {readFileSync} from "node:fs";

const root = new URL("../../", import.meta.url);
/* The table of src/serve/page.c: path, type and file. */
const source = readFileSync(new URL("src/serve/page.c", root), "utf8");
const files = new Map([...source.matchAll(/\{"([^"]+)", "([^"]+)", page_(\w+)_(\w+), /g)].map(
  ([, path, type, name, extension]) => [path, {type, file: `web/chat/${name}.${extension}`}]));
const start = source.indexOf("page_security_policy[] =");
export const policy =
  [...source.slice(start, source.indexOf('";', start) + 1).matchAll(/"([^"]*)"/g)].map((match) => match[1]).join("");

const sleep = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

const MARKDOWN = `# A heading

Some **bold**, *italic* and \`code\` with a <b>tag</b> and snake_case_names, 2 * 3 * 4.

1. first
2. second
   - inner
   - inner too
3. third

> quoted

\`\`\`python
def f(x):
    return "<script>alert(1)</script>"
\`\`\`

---
The end.`;

const HOSTILE = `<img src=x onerror="document.title='owned'"><script>document.title='owned'</script>
[link](javascript:document.title='owned') ![image](http://127.0.0.1:1/x.png)

\`\`\`"><script>document.title='owned'</script>
<iframe srcdoc="<script>parent.document.title='owned'</script>"></iframe>
\`\`\`
<style>body{display:none}</style>`;

/* The pieces of an answer's text: words with the blanks before them. */
const words = (text) => text.match(/\s*\S+|\s+$/g) ?? [];

function chunk(delta, more = {}) {
  return {
    id: "chatcmpl-1",
    object: "chat.completion.chunk",
    model: "small-model",
    choices: [{index: 0, delta, finish_reason: null, ...more}]
  };
}

const usage = (prompt, completion, cached = 0) => ({
  id: "chatcmpl-1",
  object: "chat.completion.chunk",
  model: "small-model",
  choices: [],
  usage: {
    prompt_tokens: prompt,
    completion_tokens: completion,
    total_tokens: prompt + completion,
    prompt_tokens_details: {cached_tokens: cached}
  }
});

async function streamAnswer(body, prompt, response, state) {
  response.writeHead(200, {"Content-Type": "text/event-stream", "X-Bulla-Seed": "13835058055282163713"});
  const write = (value) => response.write(`data: ${typeof value === "string" ? value : JSON.stringify(value)}\n\n`);
  const say = async (text, pause = 0) => {
    for (const word of words(text)) {
      if (response.destroyed)
        return;
      write(chunk({content: word}));
      await sleep(pause);
    }
  };
  const end = (reason, completion) => {
    write(chunk({}, {finish_reason: reason}));
    write(usage(21, completion, 16));
    write("[DONE]");
    response.end();
  };
  write(chunk({role: "assistant", content: ""}));
  if (prompt === "slow") {
    state.hungUp = false;
    response.on("close", () => (state.hungUp = !response.writableFinished));
    await say("word ".repeat(2000), 20);
    return end("length", 2000);
  }
  if (prompt === "broken") {
    await say("This answer will not");
    await sleep(50);
    return response.destroy();
  }
  if (prompt === "breaks when told" || prompt === "ends when told") {
    await say("This answer waits");
    while (!state.isTold && !response.destroyed)
      await sleep(10);
    return prompt === "ends when told" ? end("stop", 3) : response.destroy();
  }
  if (prompt === "cut") {
    await say("No end mark");
    return response.end();
  }
  if (prompt === "garbage") {
    write("{not json");
    return response.end();
  }
  if (prompt === "error inside") {
    await say("Half");
    write({error: {message: "the cache is full", type: "server_error", code: "overloaded"}});
    return response.end();
  }
  if (prompt === "think") {
    for (const word of words("Let me see. The user wants **something**."))
      write(chunk({reasoning_content: word}));
    await say("Thought through.");
    return end("stop", 12);
  }
  if (prompt === "use a tool") {
    write(chunk(
      {tool_calls: [{index: 0, id: "call_1", type: "function", function: {name: "get_weather", arguments: ""}}]}));
    for (const piece of ['{"city":', '"Ur', 'uk"}'])
      write(chunk({tool_calls: [{index: 0, function: {arguments: piece}}]}));
    return end("tool_calls", 18);
  }
  if (prompt === "split bytes") {
    const bytes = Buffer.from(`: comment\r\n\r\ndata: ${
      JSON.stringify(chunk({content: "Größe 🏺 "}))}\r\n\r\ndata: ${JSON.stringify(chunk({content: "done"}))}\r\r`);
    for (const byte of bytes) {
      response.write(Buffer.from([byte]));
      await new Promise(setImmediate);
    }
    return end("stop", 3);
  }
  if (prompt === "unverified") {
    write({...chunk({content: "From elsewhere."}), bulla: {verified: false}});
    return end("stop", 3);
  }
  if (body.messages.at(-1).role === "tool") {
    await say(`It is ${prompt} in Uruk.`);
    return end("stop", 9);
  }
  await say({markdown: MARKDOWN, hostile: HOSTILE}[prompt] ?? `You said: ${prompt}`, 1);
  return end("stop", 7);
}

const refusals = {
  "too many": [
    429, {"Retry-After": "7"}, {message: "1 request is allowed at a time", type: "rate_limit_error", code: "rate_limit"}
  ],
  "busy": [503, {"Retry-After": "2"}, {message: "no place is free", type: "overloaded_error", code: "overloaded"}],
  "refused":
    [400, {}, {message: "temperature: 101 is more than 100", type: "invalid_request_error", param: "temperature"}],
};

function metrics(state) {
  state.tokens += 400;
  return `# HELP vllm:num_requests_running Requests.\n# TYPE vllm:num_requests_running gauge\n` +
         `vllm:num_requests_running{model_name="small-model"} ${state.running}\n` +
         `vllm:num_requests_running{model_name="other {model}"} ${state.running && 1}\n` +
         `vllm:num_requests_waiting{model_name="small-model"} ${2 * state.running}\nvllm:kv_cache_usage_perc{model_name="small-model"} 0.375\n` +
         `vllm:prefix_cache_queries_total{model_name="small-model"} 200\nvllm:prefix_cache_hits_total{model_name="small-model"} 50\n` +
         `vllm:generation_tokens_total{model_name="small-model"} ${state.tokens}\n` +
         state.models.map(({id}) => `bulla_model_ready{model_name="${id}"} ${Number(state.ready)}\n`).join("") +
         `bulla_build_info{version="0.1.0"} 1\n`;
}

async function answer(request, response, requests, state) {
  const path = new URL(request.url, "http://x").pathname, file = files.get(path);
  const json = (status, value, headers = {}) => {
    response.writeHead(status, {"Content-Type": "application/json", ...headers});
    response.end(JSON.stringify(value));
  };
  if (file && request.method === "GET") {
    response.writeHead(
      200, {"Content-Type": file.type, "Content-Security-Policy": policy, "X-Content-Type-Options": "nosniff"});
    return response.end(readFileSync(new URL(file.file, root)));
  }
  state.asked.push(path);
  if (path === "/ready")
    return state.ready ? json(200, {status: "ready"}) : json(503, {error: {message: "no model is ready yet"}});
  if (path === "/version")
    return json(200, {version: "0.1.0"});
  if (state.key && request.headers.authorization !== "Bearer " + state.key)
    return json(
      401, {error: {message: "the key is missing or wrong", type: "authentication_error", code: "invalid_api_key"}});
  if (path === "/v1/models")
    return json(200, {object: "list", data: state.models});
  if (path === "/metrics") {
    response.writeHead(200, {"Content-Type": "text/plain; version=0.0.4"});
    return response.end(metrics(state));
  }
  if (path !== "/v1/chat/completions" || request.method !== "POST")
    return json(404, {error: {message: `there is no ${path} here`, type: "invalid_request_error", code: "not_found"}});
  let text = "";
  for await (const piece of request)
    text += piece;
  const body = JSON.parse(text), prompt = body.messages.at(-1).content;
  requests.push(body);
  state.text = text;
  if (refusals[prompt]) {
    const [status, headers, error] = refusals[prompt];
    return json(status, {error}, headers);
  }
  return streamAnswer(body, prompt, response, state);
}

export async function startStandIn(port = 0) {
  const requests = [], state = {
    ready: true,
    key: "",
    text: "",
    tokens: 0,
    running: 2,
    asked: [],
    hungUp: null,
    isTold: false,
    models: [
      {
        id: "small-model",
        object: "model",
        max_model_len: 8192,
        root: "7c4f6f082950969cd96e4e7d0cc293e89df46bc179be64b6940ff264f9f1fdad"
      },
      {id: "elsewhere-model", object: "model", max_model_len: 32768, bulla: {verified: false}}
    ]
  };
  const server = createServer((request, response) =>
    answer(request, response, requests, state).catch((problem) => response.destroy(problem)));
  await new Promise((resolve) => server.listen(port, "127.0.0.1", resolve));
  return {url: `http://127.0.0.1:${server.address().port}/`, requests, state, files,
          close: () => { server.closeAllConnections(); server.close(); }};
}
