/* The page: files in, the verdict of the C library out. `module` is the library (scripts/verify-page puts it before). */
"use strict";

const element = (id) => document.getElementById(id);
const given = {document: null, policy: null};
let library = null;
let verdict = null;

/* Bytes as a NUL-ended text of the library's memory; to be freed. */
function toLibrary(bytes) {
  const place = library._malloc(bytes.length + 1);
  if (!place) throw new Error("There is not enough memory for this file.");
  library.HEAPU8.set(bytes, place);
  library.HEAPU8[place + bytes.length] = 0;
  return place;
}

const textBytes = (text) => new TextEncoder().encode(text);

/* Calls a function of the library with numbers, and texts (null where there is none) with their lengths; its answer is JSON. */
function ask(name, numbers, ...texts) {
  const places = texts.map((text) => (text === null ? 0 : toLibrary(text)));
  const lengths = texts.map((text) => (text === null ? 0 : text.length));
  try {
    const answer = library["_" + name](...numbers, ...places.flatMap((place, i) => [place, lengths[i]]));
    const text = library.UTF8ToString(answer);
    library._free(answer);
    return JSON.parse(text);
  } finally {
    places.forEach((place) => place && library._free(place));
  }
}

function show(id, text) {
  element(id).textContent = text;
  element(id).hidden = !text;
}

function cell(row, ...parts) {
  const made = row.insertCell();
  for (const part of parts) made.append(part);
  return made;
}

function line(label, text) {
  const paragraph = document.createElement("p");
  const code = document.createElement("code");
  code.textContent = text;
  paragraph.append(label, code);
  return paragraph;
}

const WORDS = {pass: ["passed", "✓ pass"], fail: ["failed", "✗ FAIL"], "not checked": ["not", "– not checked"]};
/* The document's members; none where it is no JSON: the library says so. */
function members() {
  try {
    return Object(JSON.parse(new TextDecoder().decode(given.document)));
  } catch {
    return {};
  }
}

const isReceipt = () => "bulla_receipt" in members();

/* Whether nothing but a simulation stands behind the document. */
function isSimulated() {
  const document = members();
  return [document, document.evidence].some((evidence) => evidence && evidence.type === "sim") ||
    Boolean(document.signed && document.signed.receipt && document.signed.receipt.simulated);
}

const GROUPS = {receipt: "Receipt", log: "Log", binding: "What the evidence is bound to", policy: "Policy", evidence: "Evidence"};

/* A table for each first word of the names, in the order in which they come. */
function showChecks(checks) {
  const tables = new Map();
  for (const check of checks) {
    const group = check.name.split(".")[0];
    if (!tables.has(group)) {
      const table = document.createElement("table");
      table.createCaption().textContent = GROUPS[group] || group.toUpperCase();
      tables.set(group, table);
    }
    const row = tables.get(group).insertRow();
    const [kind, word] = WORDS[check.state] || ["failed", check.state];
    row.className = kind;
    cell(row, word);
    cell(row, check.name);
    const said = cell(row);
    if (check.found) said.append(line("", check.found));
    if (check.expected && check.state === "fail") said.append(line("expected ", check.expected));
    if (check.advice) said.append(line("", check.advice));
  }
  element("checks").replaceChildren(...tables.values());
}

function showVerdict() {
  const counts = {pass: 0, fail: 0, "not checked": 0};
  for (const check of verdict.checks) counts[check.state]++;
  const result = element("result");
  result.className = verdict.passed ? "passed" : "failed";
  const first = verdict.checks.find((check) => check.state === "fail");
  result.textContent = verdict.passed ? "Accepted: all that the policy requires was checked and passed"
    : given.policy === null ? "Not accepted: without a policy nothing was required"
    : `Not accepted: ${first ? first.name : "nothing was checked"}`;
  element("simulated").hidden = !isSimulated();
  element("counts").textContent = `${counts.pass} passed, ${counts.fail} failed, ${counts["not checked"]} not checked`;
  showChecks(verdict.checks);
  element("verdict").hidden = false;
}

/* Seconds, or null where the field says no time. */
function chosenTime() {
  const value = element("time").value.trim();
  if (!value) return isReceipt() ? 0 : Math.floor(Date.now() / 1000); /* 0: when it was signed */
  const time = /^\d{4}-\d\d-\d\d(T\d\d:\d\d:\d\dZ)?$/.test(value) ? Date.parse(value) : NaN;
  return Number.isNaN(time) ? null : Math.floor(time / 1000);
}

function verify() {
  show("problem", "");
  element("verdict").hidden = true;
  element("policy-section").hidden = true;
  if (!library) return;
  try {
    if (given.policy !== null) {
      const explained = ask("page_explain", [], given.policy);
      if (explained.error) throw new Error(explained.error);
      element("policy-text").textContent = explained.text;
      element("policy-section").hidden = false;
    }
    if (given.document === null) return;
    const time = chosenTime();
    if (time === null) throw new Error("The time is neither like 2026-01-31 nor like 2026-01-31T12:00:00Z.");
    const field = (id) => (element(id).value.trim() ? textBytes(element(id).value.trim()) : null);
    const answer = ask("page_verify", [isReceipt() ? 1 : 0], given.document, given.policy, textBytes(String(time)), field("nonce"),
      field("log-key"));
    if (answer.error) throw new Error(answer.error);
    verdict = answer;
    showVerdict();
  } catch (error) {
    show("problem", error.message);
  }
}

const MOST_BYTES = 64 * 1024 * 1024;

async function take(which, file) {
  if (!file) return;
  if (file.size > MOST_BYTES) {
    show("problem", `${file.name} has ${file.size} bytes, more than ${MOST_BYTES}.`);
    return;
  }
  given[which] = new Uint8Array(await file.arrayBuffer());
  element(which + "-name").textContent = file.name;
  element(which + "-drop").classList.add("given");
  verify();
}

for (const which of ["document", "policy"]) {
  const drop = element(which + "-drop");
  element(which + "-file").addEventListener("change", (event) => take(which, event.target.files[0]));
  for (const type of ["dragenter", "dragover"])
    drop.addEventListener(type, (event) => { event.preventDefault(); drop.classList.add("over"); });
  for (const type of ["dragleave", "drop"]) drop.addEventListener(type, () => drop.classList.remove("over"));
  drop.addEventListener("drop", (event) => { event.preventDefault(); take(which, event.dataTransfer.files[0]); });
}
/* A file that is dropped beside the fields would else replace the page. */
for (const type of ["dragover", "drop"]) addEventListener(type, (event) => event.preventDefault());
for (const id of ["time", "nonce", "log-key"]) element(id).addEventListener("change", verify);

element("save").addEventListener("click", () => {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([JSON.stringify(verdict, null, 2) + "\n"], {type: "application/json"}));
  link.download = "verdict.json";
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
});

makeLibrary().then((made) => { library = made; document.body.dataset.ready = "yes"; verify(); },
  (error) => show("problem", "The verifier cannot start here: " + error.message));
