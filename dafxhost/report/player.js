"use strict";
/* Versions of a sound on one clock: all of them play all the time, and switching moves gains only. So a switch
   comes at the same moment of the music, without a gap. Each version goes round by its own length. */
(() => {
  const GLIDE = 0.004; // seconds: time constant of a switch; three of them are gone before anyone notices
  const SOON = 0.03; // seconds from being asked to sounding, so that all versions begin together
  const JUMP = 2; // seconds of an arrow key
  let context = null;
  let current = null;
  const players = [];

  const wrap = (time, length) => (length > 0 ? ((time % length) + length) % length : 0);
  const clock = (t) => `${Math.floor(t / 60)}:${(t % 60).toFixed(1).padStart(4, "0")}`;
  const decoded = (uri) => {
    const text = atob(uri.slice(uri.indexOf(",") + 1));
    const bytes = new Uint8Array(text.length);
    for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
    return context.decodeAudioData(bytes.buffer);
  };

  class Player {
    constructor(root) {
      this.root = root;
      this.playButton = root.querySelector(".play");
      this.clockText = root.querySelector(".clock");
      this.seekBar = root.querySelector(".seek");
      this.matchedBox = root.querySelector(".matched input");
      this.versions = [...root.querySelectorAll(".version")].map((row) => ({
        row,
        button: row.querySelector(".choose"),
        audio: row.querySelector("audio"),
        own: Number(row.dataset.own),
        length: Number(row.dataset.seconds),
        areas: [],
      }));
      this.active = 0;
      this.playing = false;
      this.at = 0; // where the clock stands while nothing plays
      this.began = 0; // the context's time at which the clock stood at 0, while something plays
      this.ready = null;
      this.bind();
      root.classList.add("live");
      this.draw();
    }

    bind() {
      this.playButton.addEventListener("click", () => this.toggle());
      this.versions.forEach((version, i) => version.button.addEventListener("click", () => this.choose(i)));
      this.matchedBox.addEventListener("change", () => this.level());
      this.seekBar.addEventListener("input", () => this.seek(Number(this.seekBar.value)));
      this.root.addEventListener("pointerdown", () => { current = this; });
      this.root.addEventListener("focusin", () => { current = this; });
      for (const area of document.querySelectorAll("[data-version]")) {
        const version = this.versions[Number(area.dataset.version)];
        if (area.dataset.player !== this.root.id || !version) continue;
        const head = area.appendChild(document.createElement("i"));
        head.className = "head";
        area.classList.add("follows");
        const span = Number(area.dataset.span);
        version.areas.push({ head, span });
        area.addEventListener("click", (event) => {
          const box = area.getBoundingClientRect();
          const time = ((event.clientX - box.left) / box.width) * span;
          current = this;
          this.choose(this.versions.indexOf(version));
          this.seek(Math.min(time, version.length));
        });
      }
    }

    time() {
      return this.playing ? Math.max(this.at, context.currentTime - this.began) : this.at;
    }

    position(i = this.active) {
      return wrap(this.time(), this.versions[i].length);
    }

    async prepare() {
      context ??= new (window.AudioContext || window.webkitAudioContext)();
      if (navigator.audioSession) navigator.audioSession.type = "playback"; // an iPhone's silent switch
      const awake = context.resume(); // within the key or click that asked for it
      this.master ??= context.createGain();
      this.ready ??= Promise.all(this.versions.map(async (version) => {
        version.buffer = await decoded(version.audio.getAttribute("src"));
        version.length = version.buffer.duration;
        version.gain = context.createGain();
        version.gain.connect(this.master);
      }));
      this.master.connect(context.destination);
      await Promise.all([awake, this.ready]);
    }

    async play() {
      if (this.playing || this.starting) return;
      this.starting = true;
      try {
        await this.prepare();
      } catch (error) {
        this.fail(error);
        return;
      } finally {
        this.starting = false;
      }
      for (const other of players) if (other !== this) other.pause();
      current = this;
      this.start(this.at);
    }

    start(from) {
      const when = context.currentTime + SOON;
      this.at = from;
      this.began = when - from;
      this.versions.forEach((version, i) => {
        const source = context.createBufferSource();
        source.buffer = version.buffer;
        source.loop = true;
        source.connect(version.gain);
        source.start(when, wrap(from, version.length));
        version.source = source;
        version.gain.gain.cancelScheduledValues(context.currentTime);
        version.gain.gain.setTargetAtTime(0, context.currentTime, GLIDE); // what played until now
        version.gain.gain.setTargetAtTime(this.gainOf(i), when, GLIDE);
      });
      this.playing = true;
      this.draw();
      this.follow();
    }

    stop() {
      const now = context.currentTime;
      for (const version of this.versions) {
        version.gain.gain.cancelScheduledValues(now);
        version.gain.gain.setTargetAtTime(0, now, GLIDE);
        version.source.stop(now + 8 * GLIDE);
      }
    }

    pause() {
      if (!this.playing) return;
      this.at = this.position();
      this.stop();
      this.playing = false;
      this.draw();
    }

    toggle() {
      return this.playing ? this.pause() : this.play();
    }

    gainOf(i) {
      if (i !== this.active) return 0;
      return this.matchedBox.checked ? 1 : this.versions[i].own;
    }

    level() {
      if (!this.playing) return;
      const now = context.currentTime;
      this.versions.forEach((version, i) => {
        version.gain.gain.cancelScheduledValues(now);
        version.gain.gain.setTargetAtTime(this.gainOf(i), now, GLIDE);
      });
    }

    choose(i) {
      if (!this.versions[i]) return;
      this.active = i;
      this.level();
      this.draw();
    }

    seek(time) {
      const to = wrap(time, this.versions[this.active].length + 1e-6);
      if (this.playing) {
        for (const version of this.versions) {
          version.source.stop(context.currentTime + SOON);
        }
        this.playing = false;
        this.start(to);
      } else {
        this.at = to;
        this.draw();
      }
    }

    draw() {
      const length = this.versions[this.active].length;
      const now = this.position();
      this.clockText.textContent = `${clock(now)} / ${clock(length)}`;
      this.seekBar.max = length;
      this.seekBar.value = now;
      this.seekBar.setAttribute("aria-valuetext", `${now.toFixed(1)} of ${length.toFixed(1)} seconds`);
      this.playButton.setAttribute("aria-pressed", String(this.playing));
      this.playButton.setAttribute("aria-label", this.playing ? "Pause" : "Play");
      this.versions.forEach((version, i) => {
        version.button.setAttribute("aria-pressed", String(i === this.active));
        for (const { head, span } of version.areas) {
          head.style.left = `${(100 * this.position(i)) / span}%`;
        }
      });
    }

    follow() {
      if (this.frame) return; // a seek starts again while the heads are moving
      const step = () => {
        this.frame = this.playing ? requestAnimationFrame(step) : 0;
        if (this.playing) this.draw();
      };
      this.frame = requestAnimationFrame(step);
    }

    fail(error) {
      const words = this.root.querySelector(".trouble");
      words.textContent = `This browser could not decode the sound (${error.message}); its own players are below.`;
      words.hidden = false;
      this.root.classList.remove("live");
    }

    key(event) {
      const target = event.target;
      const inside = this.root.contains(target);
      const chosen = target.closest(".choose");
      if (event.key === " ") {
        // On a button that is not pressed yet, space presses it, as everywhere.
        const own = target.closest("button, a, summary, input");
        if (own && own !== this.seekBar && !(chosen && chosen.getAttribute("aria-pressed") === "true")) return false;
        this.toggle();
      } else if (/^[1-9]$/.test(event.key) && this.versions[event.key - 1]) {
        this.choose(event.key - 1);
      } else if (event.key === "ArrowLeft" || event.key === "ArrowRight") {
        if (target.closest(".wide")) return false;
        this.seek(this.position() + (event.key === "ArrowLeft" ? -JUMP : JUMP));
      } else if (inside && target !== this.seekBar && (event.key === "ArrowUp" || event.key === "ArrowDown")) {
        const count = this.versions.length;
        this.choose((this.active + (event.key === "ArrowUp" ? count - 1 : 1)) % count);
        if (chosen) this.versions[this.active].button.focus();
      } else {
        return false;
      }
      return true;
    }
  }

  for (const root of document.querySelectorAll(".player")) players.push(new Player(root));
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
    if (!(event.target instanceof Element)) return;
    if (event.target.closest("textarea, select, input:not([type=range]):not([type=checkbox])")) return;
    const player = players.find((p) => p.root.contains(event.target)) ?? current ?? players[0];
    if (player && player.key(event)) event.preventDefault();
  });
  window.dafxhostPlayers = players; // for whoever wants to look, tests among them
  window.dafxhostContext = () => context;
})();
