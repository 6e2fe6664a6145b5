const $ = (id) => document.getElementById(id);

// All that comes is text: nothing is ever read as markup.
function make(name, attributes, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes || {})) element.setAttribute(key, value);
  element.append(...children.map((child) => (child instanceof Node ? child : String(child))));
  return element;
}
// Changes what is different and nothing else: a focus or a selection stays, and what says the same is not read aloud again.
function fill(parent, nodes) {
  nodes.forEach((node, at) => {
    const old = parent.childNodes[at];
    if (!old) parent.append(node);
    else if (!old.isEqualNode(node)) become(old, node);
  });
  while (parent.childNodes.length > nodes.length) parent.lastChild.remove();
}
function become(old, node) {
  if (old.nodeName !== node.nodeName || !(old instanceof Element)) return old.replaceWith(node);
  for (const name of old.getAttributeNames()) if (!node.hasAttribute(name)) old.removeAttribute(name);
  for (const name of node.getAttributeNames()) old.setAttribute(name, node.getAttribute(name));
  fill(old, [...node.childNodes]);
}
function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}
// Whether the page follows the gateway, in words.
function live(text, is) {
  say($("live"), text);
  $("live").toggleAttribute("data-live", is);
}

const number = (value) => value.toLocaleString("en");
function span(seconds) {
  const whole = Math.round(seconds);
  if (seconds < 0.1) return seconds ? milliseconds(seconds * 1000) : "0 s";
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  if (whole < 120) return `${whole} s`;
  if (whole < 7200) return `${Math.floor(whole / 60)} min`;
  if (whole < 172800) return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
  return `${Math.floor(whole / 86400)} d ${Math.floor((whole % 86400) / 3600)} h`;
}
function milliseconds(value) {
  if (value < 1000) return `${value < 10 ? value.toFixed(1) : Math.round(value)} ms`;
  return `${(value / 1000).toFixed(value < 10000 ? 1 : 0)} s`;
}
const counted = (count, what) => `${number(count)} ${what}${count === 1 ? "" : "s"}`;
function dollars(value) {
  const digits = value < 9999.5 ? 2 : 0;
  if (value === 0 || value >= 0.995) return `$${value.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits })}`;
  return value < 0.0001 ? "< $0.0001" : `$${value.toFixed(value < 0.01 ? 4 : 3)}`;
}
function percent(share) {
  if (share > 0 && share < 0.001) return "< 0.1 %";
  return `${(share * 100).toFixed(share > 0 && share < 0.1 ? 1 : 0)} %`;
}
function cell(label, kind, ...content) {
  return make("td", { role: "cell", "data-label": label, class: kind }, ...content);
}
