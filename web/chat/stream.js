/* Requests to the server: the chat stream (server-sent events over fetch) and small questions. */

export class ServerError extends Error {
  constructor(message, {status = 0, code = "", retryAfter = 0} = {}) {
    super(message);
    this.status = status;
    this.code = code;
    this.retryAfter = retryAfter;
  }
}

export function headers(key) {
  return key ? {Authorization: "Bearer " + key} : {};
}

/* What an answer with an error status says, as the OpenAI API has it. */
async function readError(response) {
  let message = "", code = "";
  try {
    const body = JSON.parse(await response.text());
    message = body?.error?.message ?? body?.message ?? "";
    code = body?.error?.code ?? "";
  } catch { /* not JSON: the status has to do */ }
  const retryAfter = Number.parseInt(response.headers.get("retry-after") ?? "", 10);
  return new ServerError(
    String(message || `The server answered ${response.status}.`),
    {status: response.status, code: String(code ?? ""), retryAfter: retryAfter > 0 ? retryAfter : 0});
}

/* The events' data of a response body, one after another: lines end with LF, CRLF or CR, anywhere in the pieces. */
async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "", data = [];
  try {
    for (;;) {
      const {value, done} = await reader.read();
      rest += value ?? "";
      const whole = done                  ? rest.length
                    : rest.endsWith("\r") ? rest.length - 1
                                          : rest.length; /* CR may have its LF to come */
      const lines = rest.slice(0, whole).split(/\r\n|\n|\r/);
      rest = lines.pop() + rest.slice(whole);
      for (const line of lines) {
        if (line === "" && data.length) {
          yield data.join("\n");
          data = [];
        } else if (line.startsWith("data:")) {
          data.push(line.slice(line[5] === " " ? 6 : 5));
        }
      }
      if (done)
        return;
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

/* A request's JSON. Its seed is a text of digits that becomes a number there, which JSON.stringify would round. */
function toJson({seed, ...request}) {
  const text = JSON.stringify(request);
  return seed ? `{"seed":${seed},${text.slice(1)}` : text;
}

/* Sends a chat request; calls onChunk with each chunk's JSON and onHead with the response. Returns when the answer is
 * whole; throws ServerError, or AbortError where `signal` stopped it. */
export async function streamChat(request, key, signal, onHead, onChunk) {
  let response;
  try {
    response = await fetch("v1/chat/completions", {
      method: "POST",
      headers: {"Content-Type": "application/json", Accept: "text/event-stream", ...headers(key)},
      body: toJson({...request, stream: true, stream_options: {include_usage: true}}),
      signal,
    });
  } catch (problem) {
    if (signal.aborted)
      throw problem;
    throw new ServerError("The server cannot be reached.");
  }
  if (!response.ok)
    throw await readError(response);
  onHead(response);
  try {
    for await (const data of events(response.body)) {
      if (data === "[DONE]")
        return;
      const chunk = JSON.parse(data);
      if (chunk.error)
        throw new ServerError(String(chunk.error.message ?? chunk.error), {code: String(chunk.error.code ?? "")});
      onChunk(chunk);
    }
  } catch (problem) {
    if (signal.aborted || problem instanceof ServerError)
      throw problem;
    throw new ServerError("The connection broke before the answer was finished.");
  }
  throw new ServerError("The connection broke before the answer was finished.");
}

/* GET `path`: {status, text}; status 0 where nothing answered in time. */
export async function ask(path, key) {
  try {
    const response = await fetch(path, {headers: headers(key), signal: AbortSignal.timeout(4000), cache: "no-store"});
    return {status: response.status, text: await response.text()};
  } catch {
    return {status: 0, text: ""};
  }
}
