// The texts of the page in its language. The files in texts/ are those that the server reads, in the format of Project
// Fluent. Without a text in this language it is shown in English.

import { FluentBundle, FluentResource } from "./fluent.min.js";

const LANGUAGE = document.documentElement.lang;

async function load(language) {
  const response = await fetch(new URL(`texts/${language}.ftl`, import.meta.url));
  if (!response.ok) throw new Error(`texts in ${language}: ${response.status}`);
  const bundle = new FluentBundle(language, { useIsolating: false });
  bundle.addResource(new FluentResource(await response.text()));
  return bundle;
}

const bundles = await Promise.all([...new Set([LANGUAGE, "en"])].map(load));

// Returns the text `key` with its values filled in; "undo.title" is the attribute `title` of the message `undo`.
export function t(key, values = {}) {
  const [name, attribute] = key.split(".");
  for (const bundle of bundles) {
    const message = bundle.getMessage(name);
    const pattern = attribute ? message?.attributes[attribute] : message?.value;
    if (pattern) return format(bundle, key, pattern, values);
    console.error(`The texts in ${bundle.locales[0]} have no ${key}.`);
  }
  return key;
}

function format(bundle, key, pattern, values) {
  const errors = [];
  const formatted = bundle.formatPattern(pattern, values, errors);
  for (const error of errors) console.error(`Text ${key} in ${bundle.locales[0]}: ${error.message}.`);
  return formatted;
}

// Returns a number as the language of the page writes it.
export const number = (value) => value.toLocaleString(LANGUAGE);
