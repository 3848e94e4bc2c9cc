// Messages of the server: inflate, read the JSON head, cut the arrays out. The same format as wire.py.

export async function decode(buffer) {
  const stream = new Blob([buffer]).stream().pipeThrough(new DecompressionStream("deflate"));
  const data = new Uint8Array(await new Response(stream).arrayBuffer());
  const length = new DataView(data.buffer).getUint32(0, true);
  const facts = JSON.parse(new TextDecoder().decode(data.subarray(4, 4 + length)));
  let at = 4 + length;
  const arrays = {};
  for (const [name, shape] of facts.parts) {
    const size = shape.reduce((product, side) => product * side, 1);
    arrays[name] = { shape, data: data.subarray(at, at + size) };
    at += size;
  }
  return { facts, arrays };
}

/** Bytes, the low one first, as numbers. */
export function numbers(array) {
  const made = new Uint16Array(array.data.length / 2);
  for (let i = 0; i < made.length; i++) made[i] = array.data[2 * i] | (array.data[2 * i + 1] << 8);
  return made;
}

export const bit = (packed, i) => (packed[i >> 3] >> (i & 7)) & 1;

/** Steps [T, C] modulo 256 -> spikes [T, C]. */
export function summed({ shape: [ticks, cores], data }) {
  const wave = new Uint8Array(data);
  for (let i = cores; i < ticks * cores; i++) wave[i] += wave[i - cores];
  return { ticks, cores, wave };
}

/** A connection that comes back by itself; tells of messages one at a time and in order. */
export function connect(onMessage, onState) {
  let socket = null;
  let wait = 250;
  let chain = Promise.resolve();
  const open = () => {
    socket = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/live`);
    socket.binaryType = "arraybuffer";
    socket.onopen = () => { wait = 250; onState(true); };
    socket.onclose = () => { onState(false); setTimeout(open, wait); wait = Math.min(4000, wait * 2); };
    socket.onmessage = (event) => { chain = chain.then(() => decode(event.data)).then(onMessage); };
  };
  open();
  return (order) => { if (socket?.readyState === WebSocket.OPEN) socket.send(JSON.stringify(order)); };
}
