// The official openai package for Node. Prints a line of JSON for each check: {"what", "holds", "found"}.
// In the environment: BASE_URL, MODEL, API_KEY; NODE_EXTRA_CA_CERTS for TLS.
"use strict";
const OpenAI = require("openai").OpenAI;

const model = process.env.MODEL;
const client = new OpenAI({ baseURL: process.env.BASE_URL, apiKey: process.env.API_KEY, maxRetries: 0 });
const messages = [{ role: "user", content: "Say hello to the world." }];
const weather = {
  type: "function",
  function: {
    name: "get_weather", description: "The weather at a place", strict: true,
    parameters: {
      type: "object", additionalProperties: false, required: ["place"],
      properties: { place: { type: "string", enum: ["Paris", "Rome"] } },
    },
  },
};

function check(what, holds, found) {
  const line = { what: "Node: " + what, holds: Boolean(holds), found: found === undefined ? null : found };
  console.log(JSON.stringify(line));
}

async function raised(kind, call) {
  try {
    await call();
  } catch (error) {
    if (error instanceof kind) return error;
    throw error;
  }
  return null;
}

async function chat() {
  const options = { model, messages, max_tokens: 16, temperature: 0 };
  const answer = await client.chat.completions.create(options);
  check("an answer", answer.choices[0].message.content, answer);
  let text = "", usage = null;
  for await (const chunk of await client.chat.completions.create({ ...options, stream: true,
                                                                   stream_options: { include_usage: true } })) {
    if (chunk.choices.length) text += chunk.choices[0].delta.content || "";
    usage = chunk.usage || usage;
  }
  check("streamed", text === answer.choices[0].message.content, text);
  check("usage of a stream", usage && usage.completion_tokens === answer.usage.completion_tokens, usage);
  const several = await client.chat.completions.create({ ...options, n: 2, stop: ["."], logprobs: true,
                                                         top_logprobs: 2 });
  check("n", several.choices.length === 2, several.choices.length);
  check("stop", several.choices.every((choice) => !choice.message.content.includes(".")), several);
  check("logprobs", several.choices[0].logprobs.content[0].top_logprobs.length === 2, several);
  const completion = await client.completions.create({ model, prompt: "One, two,", max_tokens: 6, temperature: 0 });
  check("a completion", completion.choices[0].text.length > 0, completion);
}

async function tools() {
  const options = { model, messages, tools: [weather], tool_choice: "required", parallel_tool_calls: false,
                    max_tokens: 100 };
  const answer = await client.chat.completions.create({ ...options, temperature: 0 });
  const call = (answer.choices[0].message.tool_calls || [])[0];
  check("a call", call && call.function.name === "get_weather", answer);
  check("its arguments", ["Paris", "Rome"].includes(JSON.parse(call.function.arguments).place), call);
  const stream = client.chat.completions.stream({ ...options, temperature: 0 });
  const final = await stream.finalChatCompletion();
  const streamed = final.choices[0].message.tool_calls[0];
  check("a streamed call", streamed.function.arguments === call.function.arguments, final);
}

async function schemas() {
  const schema = {
    type: "object", additionalProperties: false, required: ["legs", "tame"],
    properties: { legs: { type: "integer", enum: [2, 4] }, tame: { type: "boolean" } },
  };
  const answer = await client.chat.completions.create({
    model, messages, max_tokens: 60,
    response_format: { type: "json_schema", json_schema: { name: "animal", strict: true, schema } },
  });
  const found = JSON.parse(answer.choices[0].message.content);
  check("a schema", [2, 4].includes(found.legs) && typeof found.tame === "boolean", found);
}

async function others() {
  const vectors = await client.embeddings.create({ model, input: ["red", "a long road"] });
  const length = Math.hypot(...vectors.data[0].embedding);
  check("embeddings", vectors.data.length === 2 && Math.abs(length - 1) < 1e-3, length);
  const options = { model, input: "Say hello.", max_output_tokens: 12, temperature: 0 };
  const response = await client.responses.create(options);
  check("a response", response.output_text.length > 0, response);
  let text = "";
  for await (const event of await client.responses.create({ ...options, stream: true }))
    if (event.type === "response.output_text.delta") text += event.delta;
  check("a streamed response", text === response.output_text, text);
  const listed = [];
  for await (const item of client.models.list()) listed.push(item.id);
  check("models", listed.includes(model), listed);
}

async function errors() {
  const missing = await raised(OpenAI.NotFoundError,
                               () => client.chat.completions.create({ model: "nothing", messages }));
  check("a model that is not served", missing && missing.code === "model_not_found", missing);
  const wrong = await raised(OpenAI.BadRequestError,
                             () => client.chat.completions.create({ model, messages, temperature: "hot" }));
  check("a wrong type", wrong && wrong.param === "temperature" && wrong.type === "invalid_request_error", wrong);
  const endless = { model, messages, max_tokens: 5000, ignore_eos: true };
  const late = await raised(OpenAI.APIConnectionTimeoutError,
                            () => client.chat.completions.create(endless, { timeout: 500 }));
  check("a time-out", late, late);
  const stream = await client.chat.completions.create({ ...endless, stream: true });
  for await (const chunk of stream) {
    if (chunk.choices[0].delta.content) break; // the client aborts the request
  }
  check("an abort", stream.controller.signal.aborted, null);
}

(async () => {
  for (const part of [chat, tools, schemas, others, errors]) await part();
  console.log(JSON.stringify({ what: "Node: came to its end", holds: true, found: null }));
})().catch((error) => {
  check("no exception", false, String(error && error.stack));
  process.exitCode = 1;
});
