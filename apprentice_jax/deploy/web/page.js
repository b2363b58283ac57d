// The page: takes pictures, hands their pixels to the engine, and shows what the network says.

const about = JSON.parse(document.getElementById("about").textContent);
const element = (id) => document.getElementById(id);
const TOP = 5; // classes that are shown
const LEAST_RUNS = 3, RUNS = 50, ENOUGH = 20; // runs of an image, of which the shortest counts; milliseconds
const CAMERA_PAUSE = 100, ANNOUNCE_PAUSE = 2000; // milliseconds
const NAME_END = 12; // letters of a file's name after its ellipsis
const percent = (odds) => `${(100 * odds).toFixed(1)}%`;
const kilobytes = (bytes) => `${(bytes / 1000).toFixed(1)} kB`;

// ---- the engine -----------------------------------------------------------------------------------

const bytesOf = (id) => Uint8Array.from(atob(element(id).textContent), (c) => c.charCodeAt(0));

/** The engine's functions; the weights follow the code, which is there with and without SIMD. */
async function startEngine() {
  const data = bytesOf("data");
  for (const id of ["simd", "plain"]) {
    const code = await new Blob([bytesOf(id), data]).arrayBuffer();
    if (!WebAssembly.validate(code)) continue;
    return {...(await WebAssembly.instantiate(code)).instance.exports, code: id};
  }
  throw new Refused("this browser is too old for WebAssembly");
}

say("The network is being made ready.");
const engine = startEngine();

/**
 * What the network says of a picture.
 * @param {Picture} picture
 * @returns {Promise<{pixels: Uint8Array, logits: Float32Array, resizing: number, computing: number}>}
 *   the network's input, its logits, and milliseconds.
 */
async function classifyPicture(picture) {
  const e = await engine, {width, height} = picture, started = performance.now();
  const place = e.begin(width, height, STRIP) >>> 0;
  if (!place) {
    const taken = about.width === about.height ? "fewer" : `${about.width}x${about.height}`;
    throw new Refused(`it has ${width}x${height} pixels: this network takes ${taken}`);
  }
  for (let y = e.first(); y < e.end(); y += STRIP) {
    const count = Math.min(STRIP, e.end() - y);
    new Uint8Array(e.memory.buffer).set(picture.rows(y, count), place);
    e.rows(place, y, count);
  }
  const seen = e.see(), size = about.width * about.height * about.channels;
  const pixels = new Uint8Array(e.memory.buffer, seen, size).slice();
  const resized = performance.now();
  // The first runs of a page are slower, and other programs of the device get in between.
  let logits, computing = Infinity;
  for (let i = 0, now = resized; i < LEAST_RUNS || (i < RUNS && now - resized < ENOUGH); i++) {
    const start = now;
    logits = e.run();
    now = performance.now();
    computing = Math.min(computing, now - start);
  }
  return {
    pixels,
    logits: new Float32Array(e.memory.buffer, logits, about.classes.length).slice(),
    resizing: resized - started,
    computing,
  };
}

/** The likeliest classes: [{name, odds}], the most probable first. */
function likeliest(logits) {
  const largest = Math.max(...logits), powers = Array.from(logits, (x) => Math.exp(x - largest));
  const sum = powers.reduce((a, b) => a + b, 0);
  const classes = powers.map((power, i) => ({name: about.classes[i], odds: power / sum}));
  return classes.sort((a, b) => b.odds - a.odds).slice(0, TOP);
}

// ---- answers --------------------------------------------------------------------------------------

/** Says a text to all, and more to a screen reader alone. */
function say(text, {more = "", trouble = false} = {}) {
  const spans = element("status").children;
  [text, more].forEach((part, i) => (spans[i].textContent = part));
  element("status").classList.toggle("trouble", trouble);
}

function newElement(tag, kind, text) {
  const made = document.createElement(tag);
  made.className = kind;
  made.textContent = text;
  return made;
}

/** A card at the top of the page. */
function newCard(name, content) {
  const card = document.createElement("article"), heading = document.createElement("h2");
  const letters = [...name.normalize()], end = letters.length > 2 * NAME_END ? -NAME_END : Infinity;
  Object.assign(heading, {title: name, dir: "auto"});
  heading.setAttribute("aria-label", name);
  heading.append(...[letters.slice(0, end), letters.slice(end)].map((part) => newElement("span", "", part.join(""))));
  card.append(heading, content);
  element("results").prepend(card);
  element("clear").hidden = false;
  return card;
}

/** A card without an answer yet. */
function newAnswer(name, photo) {
  const card = newCard(name, element("answer").content.cloneNode(true));
  card.querySelector(".photo").prepend(photo);
  return card;
}

function fillAnswer(article, name, result) {
  const {width, height, channels} = about, canvas = article.querySelector("canvas");
  const image = new ImageData(width, height), classes = likeliest(result.logits);
  for (let i = 0; i < width * height; i++) {
    for (let k = 0; k < 3; k++) image.data[4 * i + k] = result.pixels[channels * i + (channels === 3 ? k : 0)];
    image.data[4 * i + 3] = 255;
  }
  canvas.width = width;
  canvas.height = height;
  canvas.getContext("2d").putImageData(image, 0, 0);
  canvas.setAttribute("aria-label", `The ${width} by ${height} pixels of ${name} that the network sees`);
  article.querySelector(".classes").replaceChildren(
    ...classes.map(({name, odds}) => {
      const line = document.createElement("li");
      line.style.setProperty("--share", percent(odds));
      line.append(newElement("bdi", "name", name), newElement("span", "share", percent(odds)));
      return line;
    }),
  );
  article.querySelector(".time").textContent =
    `${result.computing.toFixed(2)} ms for the network, ${result.resizing.toFixed(1)} ms for the resize ` +
    `to ${width} × ${height} pixels`;
  return classes[0];
}

/** Answers for files, one after the other; a file without an answer does not end the others'. */
async function takeFiles(files) {
  const said = [], all = files.length;
  if (!all) return say("There is no picture.", {trouble: true});
  let done = 0;
  for (const [i, file] of files.entries()) {
    const name = file.name || "The picture";
    say(`Picture ${i + 1} of ${all} is being read.`);
    try {
      const result = await classifyPicture(await readPicture(file));
      const photo = new Image();
      photo.alt = name;
      photo.src = URL.createObjectURL(file);
      const best = fillAnswer(newAnswer(name, photo), name, result);
      said.push(`${name}: ${best.name} ${percent(best.odds)}.`);
      done++;
    } catch (error) {
      const sentence = `There is no answer: ${reason(error)}.`;
      newCard(name, newElement("p", "trouble", sentence));
      said.push(`${name}: ${sentence}`);
    }
  }
  const some = done && done < all, count = some ? `${done} of ${all}` : `${done || "No"} picture${done > 1 ? "s" : ""}`;
  say(`${count} ${done > 1 ? "are" : "is"} classified.`, {more: said.join(" ")});
}

const reason = (error) => (error instanceof Refused ? error.message : "this browser cannot decode it");

function removeAll() {
  if (stream) stopCamera();
  for (const image of element("results").querySelectorAll("img")) URL.revokeObjectURL(image.src);
  element("results").replaceChildren();
  element("clear").hidden = true;
  say("All pictures are removed.");
  element("choose").focus();
}

// ---- the camera -----------------------------------------------------------------------------------

let stream = null;

async function startCamera() {
  try {
    stream = await navigator.mediaDevices.getUserMedia({video: {facingMode: "environment"}});
  } catch (error) {
    const why = error.name === "NotAllowedError" ? "it is not allowed to this page" : "there is none";
    say(`The camera cannot be used: ${why}.`, {trouble: true});
    return;
  }
  const video = document.createElement("video");
  Object.assign(video, {muted: true, playsInline: true, srcObject: stream});
  video.setAttribute("aria-label", "The camera");
  cameraButton("Stop the camera", true);
  try {
    await watch(video, stream);
  } catch (error) {
    stopCamera();
    say(`There is no answer for the camera: ${reason(error)}.`, {trouble: true});
  }
}

/** Answers for what a camera sees, until it is stopped. */
async function watch(video, own) {
  const article = newAnswer("The camera", video);
  await video.play();
  let announced = "", time = -ANNOUNCE_PAUSE;
  for (; stream === own; await new Promise((resume) => setTimeout(resume, CAMERA_PAUSE))) {
    if (video.readyState < HTMLMediaElement.HAVE_CURRENT_DATA) continue;
    const bitmap = await createImageBitmap(video), result = await classifyPicture(fromBitmap(bitmap));
    bitmap.close();
    const best = fillAnswer(article, "The camera", result);
    // A screen reader would not finish a sentence at each picture.
    if (best.name !== announced && performance.now() - time > ANNOUNCE_PAUSE) {
      [announced, time] = [best.name, performance.now()];
      say("The camera is on.", {more: `${best.name} ${percent(best.odds)}`});
    }
  }
}

function stopCamera() {
  for (const track of stream.getTracks()) track.stop();
  stream = null;
  cameraButton("Use the camera", false);
  say("The camera is off.");
}

function cameraButton(text, pressed) {
  element("camera").textContent = text;
  element("camera").setAttribute("aria-pressed", pressed);
}

// ---- what a person does -----------------------------------------------------------------------------

element("choose").onclick = () => element("files").click();
element("files").onchange = (event) => {
  takeFiles([...event.target.files]);
  event.target.value = ""; // so that the same file can be chosen again
};
element("clear").onclick = removeAll;
element("camera").onclick = () => (stream ? stopCamera() : startCamera());
if (!navigator.mediaDevices?.getUserMedia) {
  element("camera").disabled = true;
  element("camera").textContent = "No camera: this browser gives it to https pages alone";
}
document.addEventListener("paste", (event) => {
  takeFiles([...event.clipboardData.files]);
});
document.addEventListener("dragover", (event) => {
  event.preventDefault();
  document.body.classList.add("over");
});
document.addEventListener("dragleave", () => document.body.classList.remove("over"));
document.addEventListener("drop", (event) => {
  event.preventDefault();
  document.body.classList.remove("over");
  takeFiles([...event.dataTransfer.files]);
});

// For other programs: apprentice.classify(file) gives the input's pixels and the logits.
window.apprentice = {about, classify: async (file) => classifyPicture(await readPicture(file))};

engine.then(
  (e) => {
    const {architecture, bytes, classes, height, precision, version, width} = about;
    element("size").textContent =
      `A neural network, ${architecture} at ${precision}, of ${kilobytes(bytes.network)}. ` +
      `Engine of ${kilobytes(bytes[e.code])}, WebAssembly ${e.code === "simd" ? "with" : "without"} SIMD. ` +
      `Input ${width} × ${height} pixels. Made by apprentice-jax ${version}.`;
    for (const name of element("knows") ? classes : []) {
      const line = document.createElement("li");
      line.append(newElement("bdi", "", name));
      element("knows").querySelector("ul").append(line);
    }
    say("The network is ready.");
  },
  (error) => say(`The network cannot run: ${error.message}.`, {trouble: true}),
);
