// Shared by the pages: pieces of data, elements, numbers. Text from data only ever becomes a text node.
"use strict";

// A page opened from disk may not fetch files, but may add scripts: each piece of data is one that calls receive().
const wronglung = (() => {
  const pieces = new Map();

  function piece(name) {
    if (!pieces.has(name)) {
      const one = {};
      one.promise = new Promise((resolve, reject) => Object.assign(one, { resolve, reject }));
      pieces.set(name, one);
    }
    return pieces.get(name);
  }

  return {
    receive(name, data) {
      piece(name).arrived = true;
      piece(name).resolve(data);
    },

    // A piece of data; each is loaded once.
    load(name) {
      const one = piece(name);
      if (!one.arrived && !one.asked) {
        one.asked = true;
        const script = document.createElement("script");
        script.src = `data/${name}.js`;
        script.onerror = () => one.reject(new Error(`data/${name}.js cannot be loaded`));
        document.head.append(script);
      }
      return one.promise;
    },

    // An element with properties and children; strings become text.
    make(tag, properties = {}, ...children) {
      const element = document.createElement(tag);
      for (const [key, value] of Object.entries(properties)) {
        if (key in element) element[key] = value;
        else element.setAttribute(key, value);
      }
      element.append(...children.filter((child) => child !== null));
      return element;
    },

    options(select, labels, chosen = 0) {
      select.replaceChildren(...labels.map((label, at) => new Option(label, String(at), at === chosen, at === chosen)));
    },

    // A figure as the pages print it: scaled, with a real minus sign; what rounds to zero has no sign.
    text(value, [scale, digits], signed = false) {
      if (value === null || value === undefined) return "–";
      const text = (value * scale).toFixed(digits);
      if (Number(text) === 0) return text.replace("-", "");
      return (signed && value > 0 ? "+" : "") + text.replace("-", "−");
    },
  };
})();
window.wronglung = wronglung;
