// Turns the 3-D embeddings: drag, arrow keys, or by itself where motion is welcome.
"use strict";
(() => {
  const data = JSON.parse(document.getElementById("cloud-data").textContent);
  const box = document.getElementById("cloud"), canvas = box.querySelector("canvas");
  const view = box.querySelector("#cloud-view"), colour = box.querySelector("#cloud-colour");
  const turn = box.querySelector("#cloud-turn"), legend = box.querySelector("#cloud-legend");
  const dark = matchMedia("(prefers-color-scheme: dark)"), pen = canvas.getContext("2d");
  let angle = 0.6, tilt = 0.35, held = null, last = 0;
  let turning = !matchMedia("(prefers-reduced-motion: reduce)").matches;

  const option = (list, text) => { const o = document.createElement("option"); o.textContent = text; list.append(o); };
  data.views.forEach((v) => option(view, v.name));
  data.colours.forEach((c) => option(colour, c.name));

  const ramp = (t) => { // between the stops of viridis
    const stops = data.ramp, x = Math.min(Math.max(t, 0), 1) * (stops.length - 1), i = Math.min(Math.floor(x), stops.length - 2);
    return "rgb(" + stops[i].map((a, k) => Math.round(a + (stops[i + 1][k] - a) * (x - i))).join() + ")";
  };
  const paint = (c, i) => {
    const v = c.values[i], set = dark.matches ? data.dark : data.light;
    if (v === null) return dark.matches ? "#4a505a" : "#c9ccc6";
    return c.classes.length ? set[v % set.length] : ramp((v - c.low) / (c.high - c.low));
  };

  const shape = (kind, x, y, r) => {
    pen.beginPath();
    if (kind === "o") pen.arc(x, y, r, 0, 7);
    else if (kind === "s") pen.rect(x - r, y - r, 2 * r, 2 * r);
    else { const n = { "D": 4, "P": 8, "X": 8 }[kind] || 3, first = { "^": -0.25, "v": 0.25, "<": 0.5, ">": 0, "D": 0, "P": 0, "X": 0.125 }[kind] || 0;
      for (let i = 0; i < n; i++) { // crosses are stars of four points
        const a = 2 * Math.PI * (first + i / n), q = n === 8 && i % 2 ? 0.5 * r : 1.35 * r;
        pen.lineTo(x + q * Math.cos(a), y + q * Math.sin(a));
      }
      pen.closePath(); }
    pen.fill();
  };

  function draw() {
    const ratio = devicePixelRatio || 1, w = canvas.clientWidth, h = canvas.clientHeight;
    if (canvas.width !== Math.round(w * ratio)) { canvas.width = Math.round(w * ratio); canvas.height = Math.round(h * ratio); }
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.clearRect(0, 0, w, h);
    const seen = data.views[Math.max(view.selectedIndex, 0)], points = seen.points, c = data.colours[Math.max(colour.selectedIndex, 0)];
    const ca = Math.cos(angle), sa = Math.sin(angle), ct = Math.cos(tilt), st = Math.sin(tilt), size = 0.42 * Math.min(w, h);
    points.map(([x, y, z], i) => { const u = x * ca - y * sa, v = x * sa + y * ca; return [u, z * ct - v * st, z * st + v * ct, seen.rows ? seen.rows[i] : i]; })
      .sort((a, b) => b[2] - a[2])
      .forEach(([u, v, depth, i]) => {
        const near = 1 / (1 + 0.22 * depth);
        pen.globalAlpha = 0.55 + 0.4 * Math.min(1, Math.max(0, near - 0.6));
        pen.fillStyle = paint(c, i);
        shape(c.classes.length && c.values[i] !== null ? data.markers[c.values[i]] : "o", w / 2 + size * u * near, h / 2 - size * v * near, 3.8 * near);
      });
    pen.globalAlpha = 1;
  }

  function words() {
    const c = data.colours[Math.max(colour.selectedIndex, 0)];
    legend.replaceChildren();
    const item = (fill, text) => { const s = document.createElement("span"), b = document.createElement("i"); b.style.background = fill; s.append(b, text); legend.append(s); };
    if (c.classes.length) c.classes.forEach((name, k) => item((dark.matches ? data.dark : data.light)[k % data.light.length], name));
    else [c.low, (c.low + c.high) / 2, c.high].forEach((v, k) => item(ramp(k / 2), v.toPrecision(3) + " " + c.unit));
    turn.textContent = turning ? "Stop" : "Turn";
  }

  function frame(now) {
    if (turning && !held) { angle += 0.0003 * Math.min(now - last, 50); draw(); }
    last = now;
    if (turning) requestAnimationFrame(frame);
  }
  canvas.addEventListener("pointerdown", (e) => { held = [e.clientX, e.clientY]; canvas.setPointerCapture(e.pointerId); });
  canvas.addEventListener("pointermove", (e) => {
    if (!held) return;
    angle -= 0.01 * (e.clientX - held[0]); tilt = Math.max(-1.5, Math.min(1.5, tilt + 0.01 * (e.clientY - held[1])));
    held = [e.clientX, e.clientY]; draw();
  });
  for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, () => { held = null; });
  canvas.addEventListener("keydown", (e) => {
    const step = { ArrowLeft: [0.15, 0], ArrowRight: [-0.15, 0], ArrowUp: [0, -0.1], ArrowDown: [0, 0.1] }[e.key];
    if (step) { angle += step[0]; tilt += step[1]; e.preventDefault(); draw(); }
  });
  turn.addEventListener("click", () => { turning = !turning; words(); if (turning) requestAnimationFrame((t) => { last = t; frame(t); }); });
  for (const list of [view, colour]) list.addEventListener("change", () => { words(); draw(); });
  dark.addEventListener("change", () => { words(); draw(); });
  addEventListener("resize", draw);
  words(); draw(); box.dataset.ready = "yes";
  if (turning) requestAnimationFrame((t) => { last = t; frame(t); });
})();
