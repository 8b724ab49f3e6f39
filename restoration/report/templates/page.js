"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const form = document.getElementById("controls");
  const holder = document.getElementById("cards");
  const cards = [...holder.querySelectorAll(".card")];
  const [left, cut, step, zoom] = ["left", "cut", "step", "zoom"].map((id) => document.getElementById(id));

  const say = (input, text) => {
    input.setAttribute("aria-valuetext", text);
    form.querySelector(`output[for=${input.id}]`).textContent = text;
  };

  const picture = (number, alt) => {
    const image = new Image();
    image.src = data.images[number];
    image.alt = alt;
    return image;
  };

  // The most evaluations that a run has, up to those asked for; else its fewest.
  const nearest = (run, asked) => {
    const own = Object.keys(run.nfe).map(Number).sort((a, b) => a - b);
    return own.filter((nfe) => nfe <= asked).pop() ?? own[0];
  };

  const before = (entry, run, asked) => {
    if (left.value === "clean") return [entry.clean, "clean"];
    const other = entry.runs[left.value];
    if (!other) return [run.degraded, "degraded"];
    const nfe = nearest(other, asked);
    const name = holder.querySelector(`[data-run="${left.value}"]`).dataset.name;
    return [other.nfe[nfe], `restored by ${name} at ${nfe} NFE`];
  };

  const show = () => {
    const entry = data.pictures[form.elements.picture.value];
    const asked = data.steps[step.value];
    say(step, `${asked} NFE`);
    for (const card of cards) {
      const run = entry.runs[card.dataset.run];
      card.hidden = !run;
      if (!run) continue;
      const nfe = nearest(run, asked);
      const [number, name] = before(entry, run, asked);
      const after = picture(run.nfe[nfe], `restored by ${card.dataset.name} at ${nfe} NFE`);
      card.querySelector(".frame").replaceChildren(after, picture(number, name));
      const psnr = run.psnr[nfe] ? `, ${run.psnr[nfe]}` : "";
      card.querySelector(".shown").textContent = `${name} | restored, ${nfe} NFE${psnr}`;
    }
  };

  const move = () => {
    holder.style.setProperty("--cut", `${cut.value}%`);
    say(cut, `${cut.value} %`);
  };

  const enlarge = () => {
    say(zoom, `${zoom.value} ×`);
    for (const card of cards) {
      const view = card.querySelector(".view");
      const centre = [
        (view.scrollLeft + view.clientWidth / 2) / view.scrollWidth,
        (view.scrollTop + view.clientHeight / 2) / view.scrollHeight,
      ];
      // The height of one picture, so that a larger one scrolls in it.
      const image = view.querySelector("img");
      const ratio = image && image.naturalWidth ? image.naturalWidth / image.naturalHeight : 1;
      view.style.aspectRatio = String(ratio);
      view.querySelector(".frame").style.width = `${100 * zoom.value}%`;
      view.scrollTo(
        centre[0] * view.scrollWidth - view.clientWidth / 2,
        centre[1] * view.scrollHeight - view.clientHeight / 2,
      );
    }
  };

  for (const input of form.elements.picture.length ? form.elements.picture : [form.elements.picture]) {
    const entry = data.pictures[input.value];
    input.nextElementSibling.replaceChildren(picture(entry.clean, entry.label));
    input.addEventListener("change", () => {
      show();
      enlarge();
    });
  }
  step.addEventListener("input", show);
  left.addEventListener("change", show);
  cut.addEventListener("input", move);
  zoom.addEventListener("input", enlarge);
  form.addEventListener("submit", (event) => event.preventDefault());

  for (const card of cards) {
    const view = card.querySelector(".view");
    view.addEventListener("scroll", () => {
      for (const other of cards.map((one) => one.querySelector(".view"))) {
        if (other !== view && other.scrollLeft !== view.scrollLeft) other.scrollLeft = view.scrollLeft;
        if (other !== view && other.scrollTop !== view.scrollTop) other.scrollTop = view.scrollTop;
      }
    });
    const follow = (event) => {
      if (event.pointerType !== "mouse" || !(event.buttons & 1)) return;
      const frame = card.querySelector(".frame").getBoundingClientRect();
      cut.value = String(Math.round((100 * (event.clientX - frame.left)) / frame.width));
      move();
    };
    view.addEventListener("pointerdown", follow);
    view.addEventListener("pointermove", follow);
    view.addEventListener("dragstart", (event) => event.preventDefault());
  }

  show();
  move();
  enlarge();
})();
