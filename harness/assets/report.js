// Reads the time line out under the pointer and hides series. The page works without it.
(() => {
  "use strict";
  const holder = document.getElementById("timeline");
  const source = document.getElementById("timeline-data");
  if (!holder || !source) return;
  const data = JSON.parse(source.textContent);
  const readout = holder.querySelector(".readout");
  const number = (value) => value.toLocaleString("en").replaceAll(",", "\u202f");

  const outcomes = ([, ok, failed, unknown, [p50, p99, max]]) => {
    const rate = (count) => number(Math.round(count / data.slot));
    return `ok ${rate(ok)}/s, failed ${rate(failed)}/s, unknown ${rate(unknown)}/s; ` +
      `p50 ${p50 ?? "–"}, p99 ${p99 ?? "–"}, max ${max ?? "–"}`;
  };

  holder.querySelectorAll(".plot").forEach((plot) => {
    const svg = plot.querySelector("svg");
    const [left, right, top, bottom] = data.frames[plot.classList.contains("narrow") ? 1 : 0];
    const cursor = document.createElement("div");
    cursor.className = "cursor";
    cursor.hidden = true;
    plot.append(cursor);
    const read = (event) => {
      const box = svg.getBoundingClientRect();
      if (!box.width || !data.slots.length) return;
      // Plot files count two units a pixel.
      const scale = box.width / (svg.viewBox.baseVal.width / 2);
      const x = (event.clientX - box.left) / scale;
      const at = data.from + ((x - left) / (right - left)) * (data.to - data.from);
      const index = Math.floor((at - data.slots[0][0]) / data.slot + 1e-6);
      const slot = data.slots[index];
      if (!slot || x < left || x > right) return leave();
      cursor.hidden = false;
      cursor.style.left = `${x * scale}px`;
      cursor.style.top = `${top * scale}px`;
      cursor.style.height = `${(bottom - top) * scale}px`;
      const told = typeof slot[1] === "string" ? slot[1] : outcomes(slot);
      readout.textContent = `${slot[0].toFixed(2)} s: ${told}`;
    };
    const leave = () => {
      cursor.hidden = true;
      readout.textContent = readout.dataset.idle;
    };
    plot.addEventListener("pointermove", read);
    plot.addEventListener("pointerdown", read);
    plot.addEventListener("pointerleave", leave);
  });
  readout.textContent = readout.dataset.idle;

  const sheet = document.createElement("style");
  document.head.append(sheet);
  const hidden = new Set();
  const toggles = holder.querySelector(".toggles");
  data.colours.forEach(([name, colour]) => {
    const label = document.createElement("label");
    const box = document.createElement("input");
    box.type = "checkbox";
    box.checked = true;
    box.addEventListener("change", () => {
      if (box.checked) hidden.delete(colour);
      else hidden.add(colour);
      sheet.textContent = [...hidden]
        .map((c) => `#timeline .plot [fill="${c}"],#timeline .plot [stroke="${c}"]{display:none}`)
        .join("");
    });
    label.append(box, ` ${name}`);
    toggles.append(label);
  });
})();
