/* The verifying page (build/verify.html) in Chromium, from a file, without a network: each case's verdict is compared with what
 * `bulla verify --json` said, and what the page shows with the verdict. Prints what does not hold and, last, "N checks".
 *
 * environment: BULLA_NODE_PACKAGES, BULLA_CHROMIUM  as page.test.mjs
 *              BULLA_VERIFY_PAGE                    the page's file
 *              BULLA_VERIFY_CASES                   a JSON file: [{"name", "document", "policy" or null, "time" or "", "nonce" or
 *                                                   "", "logKey" or "", "simulated", "verdict": {...}, or "error": true}],
 *                                                   with paths of files
 *              BULLA_PICTURES                       a folder for pictures of the first two cases, or unset */
import {readFileSync} from "node:fs";
import {createRequire} from "node:module";
import {pathToFileURL} from "node:url";
import {check, finish} from "./checks.mjs";

const {chromium} = createRequire(process.env.BULLA_NODE_PACKAGES + "/")("playwright-core");
const cases = JSON.parse(readFileSync(process.env.BULLA_VERIFY_CASES));

const browser = await chromium.launch({executablePath: process.env.BULLA_CHROMIUM, args: ["--no-sandbox", "--disable-gpu"]});
const context = await browser.newContext({viewport: {width: 1100, height: 1000}, offline: true, acceptDownloads: true});
const page = await context.newPage();
const troubles = [];
const address = pathToFileURL(process.env.BULLA_VERIFY_PAGE).href;
page.on("pageerror", (problem) => troubles.push("error: " + problem.message));
page.on("request", (request) => request.url() === address || /^(data|blob):/.test(request.url()) ||
                                troubles.push("asks " + request.url()));
page.on("console", (message) => /Content Security Policy|Refused to/.test(message.text()) && troubles.push(message.text()));

const shown = async (id) => (await page.locator("#" + id).isVisible()) ? page.locator("#" + id).innerText() : "";

/* Chromium saves nothing, from memory neither, while it is offline. */
async function savedVerdict() {
  await context.setOffline(false);
  const [download] = await Promise.all([page.waitForEvent("download"), page.click("#save")]);
  await context.setOffline(true);
  return JSON.parse(readFileSync(await download.path()));
}

async function judge(one) {
  await page.goto(address);
  await page.waitForSelector("body[data-ready]");
  await page.evaluate(() => document.querySelector("details").open = true);
  await page.fill("#time", one.time);
  await page.fill("#nonce", one.nonce);
  await page.fill("#log-key", one.logKey);
  if (one.policy) await page.setInputFiles("#policy-file", one.policy);
  await page.setInputFiles("#document-file", one.document);
  await page.waitForSelector("#verdict:not([hidden]), #problem:not([hidden])");
}

for (const [index, one] of cases.entries()) {
  await judge(one);
  if (process.env.BULLA_PICTURES && index < 2)
    await page.screenshot({path: `${process.env.BULLA_PICTURES}/verify-${index}.png`, fullPage: true});
  if (one.error) {
    check(await shown("problem") !== "" && await shown("verdict") === "", `${one.name}: a problem and no verdict`);
    continue;
  }
  check(await shown("problem") === "", `${one.name}: ${await shown("problem")}`);
  const found = index === 0 ? await savedVerdict() : await page.evaluate(() => verdict) || {};
  check(JSON.stringify(found.checks) === JSON.stringify(one.verdict.checks) && found.passed === one.verdict.passed,
        `${one.name}: the command's verdict\n  found    ${JSON.stringify(found)}\n  expected ${JSON.stringify(one.verdict)}`);
  check((await shown("result")).startsWith(one.verdict.passed ? "Accepted" : "Not accepted"), `${one.name}: ${await shown("result")}`);
  check(await page.locator("#checks tr").count() === one.verdict.checks.length, `${one.name}: a row a check`);
  check((await shown("simulated") !== "") === one.simulated, `${one.name}: says SIMULATED where it is`);
}

/* What is dropped beside the fields is not opened in place of the page; what is dropped on a field is taken. */
await page.goto(address);
await page.waitForSelector("body[data-ready]");
const bytes = readFileSync(cases[0].document).toString();
await page.evaluate((text) => {
  const drop = (target) => {
    const data = new DataTransfer();
    data.items.add(new File([text], "dropped.json", {type: "application/json"}));
    return target.dispatchEvent(new DragEvent("drop", {dataTransfer: data, bubbles: true, cancelable: true}));
  };
  window.tookOver = drop(document.body);
  drop(document.getElementById("document-drop"));
}, bytes);
await page.waitForSelector("#verdict:not([hidden])");
check(await page.evaluate(() => window.tookOver) === false, "a file beside the fields is not opened");
check(await shown("document-name") === "dropped.json", "a dropped file is taken");
check((await shown("result")).includes("nothing was required"), "without a policy nothing was required");
check(troubles.length === 0, "no errors, no requests: " + troubles.join("; "));

await browser.close();
finish();
