/* What the page's parts share to find and make elements. */

export const $ = (id) => document.getElementById(id);

export function make(tag, className, ...children) {
  const node = document.createElement(tag);
  if (className)
    node.className = className;
  node.append(...children);
  return node;
}

export function button(text, onClick, className, label) {
  const node = make("button", className, text);
  node.type = "button";
  if (label)
    node.setAttribute("aria-label", label);
  node.addEventListener("click", onClick);
  return node;
}

/* Shows for a moment what a button has done. */
export function flash(button, word) {
  const text = button.textContent;
  if (text === word)
    return;
  button.textContent = word;
  setTimeout(() => (button.textContent = text), 1200);
}

/* Says something to those who listen instead of looking. */
export function say(text) {
  $("said").textContent = text;
}
