/* The API key: kept until the tab is closed, and asked for where the server wants one. */
import {$, make} from "./dom.js";

let changed = () => {};

export const key = () => $("key").value.trim();

function setKey(text) {
  $("key").value = text.trim();
  try {
    key() ? sessionStorage.setItem("bulla-key", key()) : sessionStorage.removeItem("bulla-key");
  } catch { /* no storage allowed: the field is enough */ }
  changed();
}

/* `onChange` is called when there is another key. */
export function startKey(onChange) {
  changed = onChange;
  try {
    $("key").value = sessionStorage.getItem("bulla-key") ?? "";
  } catch { /* as above */ }
  $("key").addEventListener("change", () => setKey($("key").value));
}

/* A form that asks for the key and goes on with `then` when there is one. */
export function keyForm(then) {
  const input = make("input"), submit = make("button", "main", "Use key");
  input.type = "password";
  input.autocomplete = "off";
  input.spellcheck = false;
  const form = make("form", "key-form", make("label", "field", "API key", input), submit,
                    make("p", "note", "It stays in this tab, and is gone when the tab is closed."));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    if (input.value.trim())
      setKey(input.value);
    if (key())
      then();
  });
  return form;
}
