/* A little Markdown: paragraphs, headings, lists, quotes, rules, code fences, `code`, **bold** and *italic*. Everything
 * a model writes becomes text nodes; no HTML, no links, no images, so that an answer can neither run nor load anything.
 */
import {flash} from "./dom.js";

const FENCE = /^ {0,3}(`{3,}|~{3,})\s*([^\s`]*)[^`]*$/;
const HEADING = /^ {0,3}(#{1,6})\s+(.*?)\s*#*\s*$/;
const RULE = /^ {0,3}([-*_])(\s*\1){2,}\s*$/;
const ITEM = /^(\s*)([-*+]|\d{1,9}[.)])\s+(.*)$/;
const QUOTE = /^ {0,3}> ?(.*)$/;

/* Lines to blocks: {kind, lines, info}. The last one may be unfinished. */
function split(text) {
  const blocks = [];
  let block = null, fence = null;
  const begin = (kind, info) => blocks.push(block = {kind, info: info || "", lines: []});
  for (const line of text.split("\n")) {
    if (fence) {
      if (line.trim().startsWith(fence) && !line.trim().replaceAll(fence[0], ""))
        fence = block = null;
      else
        block.lines.push(line);
      continue;
    }
    const opening = FENCE.exec(line), heading = HEADING.exec(line);
    if (opening) {
      fence = opening[1];
      begin("code", opening[2]);
    } else if (heading) {
      begin("heading", heading[1].length);
      block.lines.push(heading[2]);
      block = null;
    } else if (RULE.test(line)) {
      begin("rule");
      block = null;
    } else if (!line.trim()) {
      if (block && block.kind === "list")
        block.lines.push("");
      else
        block = null;
    } else if (ITEM.test(line) || (block && block.kind === "list" && (/^\s/.test(line) || block.lines.at(-1) !== ""))) {
      if (!block || block.kind !== "list")
        begin("list");
      block.lines.push(line);
    } else if (QUOTE.test(line)) {
      if (!block || block.kind !== "quote")
        begin("quote");
      block.lines.push(QUOTE.exec(line)[1]);
    } else {
      if (!block || block.kind !== "paragraph")
        begin("paragraph");
      block.lines.push(line);
    }
  }
  return blocks;
}

const MOST_MARKED = 8000; /* characters: looking for marks takes the square of it at worst */

/* `code`, **bold**, *italic* and what lies between, as nodes of `parent`. */
function inline(parent, text, depth = 0) {
  const mark =
    /(`+)([^`]|[^`][\s\S]*?[^`])\1(?!`)|\*\*(?=\S)([\s\S]*?\S)\*\*|(?<![\w*])\*(?=[^\s*])([^*]*[^\s*])\*(?![\w*])/g;
  let at = 0;
  for (let found; depth < 4 && text.length <= MOST_MARKED && (found = mark.exec(text));) {
    parent.append(text.slice(at, found.index));
    const [, ticks, code, bold, italic] = found;
    const element = document.createElement(ticks ? "code" : bold !== undefined ? "strong" : "em");
    if (ticks)
      element.append(code);
    else
      inline(element, bold ?? italic, depth + 1);
    parent.append(element);
    at = mark.lastIndex;
  }
  parent.append(text.slice(at));
}

function codeBlock(block) {
  const box = document.createElement("div"), head = document.createElement("div"), pre = document.createElement("pre");
  const code = document.createElement("code"), name = document.createElement("span");
  box.className = "code";
  head.className = "code-head";
  name.append(block.info || "text");
  head.append(name);
  if (navigator.clipboard) {
    const copy = document.createElement("button");
    copy.type = "button";
    copy.append("Copy");
    copy.setAttribute("aria-label", "Copy this code");
    copy.addEventListener("click",
                          () => navigator.clipboard.writeText(code.textContent).then(() => flash(copy, "Copied"), () => {}));
    head.append(copy);
  }
  code.append(block.lines.join("\n"));
  pre.tabIndex = 0; /* it scrolls: keys must reach it */
  pre.append(code);
  box.append(head, pre);
  return box;
}

/* Items nest by indentation. */
function list(block) {
  const items = [];
  for (const line of block.lines) {
    const found = ITEM.exec(line);
    if (found)
      items.push(
        {indent: found[1].length, ordered: /\d/.test(found[2]), start: parseInt(found[2], 10), text: found[3]});
    else if (line.trim() && items.length)
      items.at(-1).text += "\n" + line.trim();
  }
  const build = (from, indent) => {
    const element = document.createElement(items[from].ordered ? "ol" : "ul");
    if (items[from].ordered && items[from].start !== 1)
      element.start = items[from].start;
    let at = from;
    while (at < items.length && items[at].indent >= indent) {
      if (items[at].indent > indent + 1 && element.lastChild) {
        const [inner, next] = build(at, items[at].indent);
        element.lastChild.append(inner);
        at = next;
        continue;
      }
      const item = document.createElement("li");
      inline(item, items[at++].text);
      element.append(item);
    }
    return [element, at];
  };
  const out = document.createDocumentFragment();
  for (let at = 0; at < items.length;) {
    const [element, next] = build(at, items[at].indent);
    out.append(element);
    at = next;
  }
  if (out.childNodes.length === 1)
    return out.firstChild;
  const box = document.createElement("div");
  box.append(out);
  return box;
}

function element(block) {
  if (block.kind === "code")
    return codeBlock(block);
  if (block.kind === "list")
    return list(block);
  const tag = {heading: block.info <= 2 ? "h3" : "h4", rule: "hr", quote: "blockquote", paragraph: "p"}[block.kind];
  const node = document.createElement(tag);
  if (block.kind !== "rule")
    inline(node, block.lines.join("\n"));
  return node;
}

/* Shows a text that grows: blocks that did not change keep their nodes, so that what a reader has selected stays. */
export class MarkdownView {
  constructor(container) {
    this.container = container;
    this.sources = [];
  }

  show(text) {
    const blocks = split(text);
    blocks.forEach((block, place) => {
      const source = block.kind + block.info + "\n" + block.lines.join("\n");
      if (this.sources[place] === source)
        return;
      const node = element(block), old = this.container.children[place];
      if (old)
        old.replaceWith(node);
      else
        this.container.append(node);
      this.sources[place] = source;
    });
    while (this.container.children.length > blocks.length)
      this.container.lastElementChild.remove();
    this.sources.length = blocks.length;
  }
}
