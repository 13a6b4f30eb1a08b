// The texts of the page in its language, and in English for what that language lacks. The page carries the files that the server
// reads, in the format of Project Fluent: so they are there before any other script runs.

import { FluentBundle, FluentResource } from "./fluent.min.js";

const LANGUAGE = document.documentElement.lang;
const bundles = [...document.querySelectorAll("script[type='text/fluent']")].map((file) => {
  const bundle = new FluentBundle(file.lang, { useIsolating: false });
  bundle.addResource(new FluentResource(file.textContent));
  return bundle;
});

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
