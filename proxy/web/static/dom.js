// @ts-check
/** Elements, numbers and times: what all views write with. Nothing here makes HTML of text. */

/** @typedef {Node | string | number | null | undefined | false} Child */

/**
 * An element. `on…` are listeners, `true` is an empty attribute, `false` and `null` none.
 * @template {keyof HTMLElementTagNameMap} T
 * @param {T} tag
 * @param {Record<string, any>} [attributes]
 * @param {...(Child | Child[])} children
 * @returns {HTMLElementTagNameMap[T]}
 */
export function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "value" && "value" in element) /** @type {any} */ (element).value = value;
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, value === true ? "" : String(value));
  }
  put(element, ...children);
  return element;
}

/**
 * Replace what is in an element.
 * @param {Element} element
 * @param {...(Child | Child[])} children
 */
export function put(element, ...children) {
  const nodes = children.flat().filter((child) => child !== null && child !== undefined && child !== false);
  element.replaceChildren(.../** @type {(Node | string)[]} */ (nodes.map((child) => (typeof child === "number" ? String(child) : child))));
}

const SVG = "http://www.w3.org/2000/svg";

/**
 * A line of values over time, and a fainter one beside it.
 * @param {string} label
 * @param {(number | null)[]} values
 * @param {(number | null)[]} [beside]
 */
export function sparkline(label, values, beside = []) {
  const picture = document.createElementNS(SVG, "svg");
  picture.setAttribute("class", "spark");
  picture.setAttribute("viewBox", "0 0 100 30");
  picture.setAttribute("preserveAspectRatio", "none");
  picture.setAttribute("role", "img");
  picture.setAttribute("aria-label", label);
  const top = Math.max(1e-9, ...[...values, ...beside].map((value) => value ?? 0));
  const base = document.createElementNS(SVG, "line");
  for (const [name, value] of Object.entries({ class: "base", x1: 0, x2: 100, y1: 29.5, y2: 29.5 })) base.setAttribute(name, String(value));
  picture.append(base);
  for (const [name, line] of /** @type {[string, (number | null)[]][]} */ ([["b", beside], ["a", values]])) {
    const path = document.createElementNS(SVG, "path");
    path.setAttribute("class", name);
    path.setAttribute("d", points(line, top));
    picture.append(path);
  }
  return picture;
}

/**
 * @param {(number | null)[]} values
 * @param {number} top
 */
function points(values, top) {
  let path = "";
  let pen = "M";
  values.forEach((value, index) => {
    if (value === null) return;
    const x = values.length > 1 ? (index / (values.length - 1)) * 100 : 100;
    path += `${pen}${x.toFixed(2)} ${(29 - (value / top) * 27).toFixed(2)}`;
    pen = "L";
  });
  return path.includes("L") ? path : path && `${path}h.01`;
}

/** @param {number | null | undefined} ms */
export function duration(ms) {
  if (ms === null || ms === undefined) return "–";
  if (ms < 0.05) return "< 1 ms"; // the proxy's clock may have no finer step
  if (ms < 10) return `${Number(ms.toFixed(1))} ms`;
  if (ms < 1000) return `${Math.round(ms)} ms`;
  if (ms < 60_000) return `${(ms / 1000).toFixed(ms < 10_000 ? 2 : 1)} s`;
  return `${Math.floor(ms / 60_000)} min ${Math.round((ms % 60_000) / 1000)} s`;
}

/** @param {number} count */
export function amount(count) {
  return count.toLocaleString("en", { maximumFractionDigits: count < 10 ? 1 : 0 });
}

/** @param {number} ms */
export function clock(ms) {
  return new Date(ms).toLocaleTimeString("en-GB");
}

/**
 * @param {number} count
 * @param {string} noun
 */
export function counted(count, noun) {
  return `${amount(count)} ${noun}${count === 1 ? "" : "s"}`;
}

/**
 * The value below which a share of the values lies.
 * @param {number[]} values
 * @param {number} share
 */
export function percentile(values, share) {
  if (!values.length) return null;
  const sorted = [...values].sort((one, other) => one - other);
  return sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))];
}

/**
 * A field with its label.
 * @param {string} text
 * @param {HTMLElement} field
 * @param {string} [kind]
 */
export function labelled(text, field, kind = "grow") {
  field.id ||= `f-${text.toLowerCase().replace(/\W+/g, "-")}`;
  return h("div", { class: kind }, h("label", { for: field.id }, text), field);
}
