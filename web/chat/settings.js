/* The settings' fields, as members of a request. What is left empty is not sent. */
import {$} from "./dom.js";

const NUMBERS = [
  "temperature", "max_tokens", "top_p", "top_k", "min_p", "presence_penalty", "frequency_penalty", "repetition_penalty"
];

class SettingsProblem extends Error {}

function readNumber(name) {
  const input = $(name);
  if (!input.validity.valid)
    throw new SettingsProblem(`${input.labels[0].firstChild.textContent.trim()}: ${input.validationMessage}`);
  return input.value.trim() === "" ? undefined : Number(input.value);
}

/* Digits, since a number of JavaScript holds 53 bits of the 64 (stream.js writes them as they are). */
function readSeed() {
  const text = $("seed").value.trim();
  if (text && (!/^\d+$/.test(text) || BigInt(text) >= 2n ** 64n))
    throw new SettingsProblem("Seed: expected a whole number from 0 to 18446744073709551615.");
  return text ? String(BigInt(text)) : undefined;
}

function readTools() {
  const text = $("tools").value.trim();
  if (!text)
    return undefined;
  let tools;
  try {
    tools = JSON.parse(text);
  } catch (problem) {
    throw new SettingsProblem("Tools: this is not JSON. " + problem.message);
  }
  if (!Array.isArray(tools))
    throw new SettingsProblem("Tools: expected a list, [ … ].");
  return tools.length ? tools : undefined;
}

function readSettings() {
  const settings = {};
  for (const name of NUMBERS)
    settings[name] = readNumber(name);
  settings.seed = readSeed();
  settings.tools = readTools();
  settings.model = $("model").value || undefined;
  return settings;
}

export function showSettingsProblem(text) {
  $("settings-problem").textContent = text;
  $("settings-problem").hidden = !text;
}

/* The request's members beside its messages; null where a field cannot be taken, which is then shown. */
export function takeSettings() {
  try {
    const settings = readSettings();
    showSettingsProblem("");
    return settings;
  } catch (problem) {
    if (!(problem instanceof SettingsProblem))
      throw problem;
    showSettingsProblem(problem.message);
    return null;
  }
}
