// What page_beside_onnxruntime.py calls in the browser: each contestant computes logits of one image.

const bytesOf = async (file) => new Uint8Array(await (await fetch(file)).arrayBuffer());

/** The engine of a page, and its call. `part`: "simd" or "plain". */
async function ofPage(file, part, image) {
  const html = new DOMParser().parseFromString(new TextDecoder().decode(await bytesOf(file)), "text/html");
  const decode = (id) => Uint8Array.from(atob(html.getElementById(id).textContent), (c) => c.charCodeAt(0));
  const code = await new Blob([decode(part), decode("data")]).arrayBuffer();
  const engine = (await WebAssembly.instantiate(code)).instance.exports;
  const classes = JSON.parse(html.getElementById("about").textContent).classes.length;
  return () => {
    new Uint8Array(engine.memory.buffer).set(image, engine.image());
    return new Float32Array(engine.memory.buffer, engine.run(), classes).slice();
  };
}

/** A session of onnxruntime-web on one thread, and its call. */
async function ofOnnx(file, image) {
  const ort = await import("./ort.wasm.min.mjs");
  ort.env.wasm.numThreads = 1;
  const options = {executionProviders: ["wasm"], graphOptimizationLevel: "all"};
  const session = await ort.InferenceSession.create(await bytesOf(file), options);
  const images = new ort.Tensor("uint8", image, [1, 32, 32, 3]);
  return async () => (await session.run({images})).logits.data;
}

const calls = {};

/** Makes a contestant; returns its logits. */
async function logitsOf([name, file, part]) {
  const image = await bytesOf("image.bin");
  calls[name] = part ? await ofPage(file, part, image) : await ofOnnx(file, image);
  return [...(await calls[name]())];
}

/** Milliseconds of a call, over a turn of about so many. */
async function timed(call, turn) {
  let count = 0, start = performance.now(), now;
  do {
    await call();
    count++;
    now = performance.now();
  } while (now - start < turn);
  return (now - start) / count;
}

/** Milliseconds of each contestant's calls, in turns; one turn before that does not count. */
async function inTurns([rounds, turn]) {
  const times = Object.fromEntries(Object.keys(calls).map((name) => [name, []]));
  for (let round = 0; round <= rounds; round++) {
    for (const [name, call] of Object.entries(calls)) {
      const time = await timed(call, turn);
      if (round > 0) times[name].push(time);
    }
  }
  return times;
}

window.bench = {logitsOf, inTurns};
