// A batch as a person has it (JSON, a table, a file) as the body of a request.

const KNOWN = { "<f2": "float16", "<f4": "float32", "<f8": "float64", "|i1": "int8", "<i2": "int16", "<i4": "int32", "<i8": "int64", "|u1": "uint8", "|b1": "bool" };

export const JSON_TYPE = "application/json";
const SAFETENSORS = "application/x-safetensors";

// What is wrong with a batch before it is sent, told as the service tells it.
export class Unreadable extends Error {
  constructor(message) {
    super(message);
    this.title = "The batch cannot be read";
    this.errors = [];
  }
}

// A body with a document that is still to be added to: {document, type, write(document) -> body}.
export function pasted(text) {
  const trimmed = text.trim();
  if (!trimmed) throw new Unreadable("paste a batch, or load the example");
  return trimmed.startsWith("{") ? jsonBatch(trimmed) : tableBatch(trimmed);
}

function jsonBatch(text) {
  let document;
  try {
    document = JSON.parse(text);
  } catch (error) {
    throw new Unreadable(`not JSON: ${error.message}`);
  }
  // Members that choose variants are chosen on the page.
  const { variants, settings, ...rest } = document;
  return { document: rest, type: JSON_TYPE, write: JSON.stringify, settings, variants };
}

// Rows of logits with the label last; a first line without numbers names the classes.
function tableBatch(text) {
  const lines = text.split(/\r?\n/).map((line) => line.trim()).filter((line) => line && !line.startsWith("#"));
  const cells = lines.map((line) => line.split(/\s*[,;\t]\s*|\s+/));
  const named = cells[0].some((cell) => Number.isNaN(Number(cell)) && !isSpecial(cell));
  const isHeader = named && cells[0].slice(0, -1).every((cell) => Number.isNaN(Number(cell)) && !isSpecial(cell));
  const names = isHeader ? cells.shift().slice(0, -1) : null;
  const width = names ? names.length : cells[0].length - 1;
  const logits = [];
  const labels = [];
  cells.forEach((row, at) => {
    const where = `row ${at + 1}`;
    if (row.length !== width + 1) {
      throw new Unreadable(`${where} has ${row.length} columns, not ${width + 1}: logits, then the label`);
    }
    logits.push(row.slice(0, -1).map((cell) => numberOf(cell, where)));
    labels.push(labelOf(row.at(-1), names, where));
  });
  const document = { logits, labels };
  if (names) document.class_names = names;
  return { document, type: JSON_TYPE, write: JSON.stringify };
}

const isSpecial = (cell) => /^[+-]?(nan|inf|infinity)$/i.test(cell);

function numberOf(cell, where) {
  const value = Number(cell);
  if (cell === "" || Number.isNaN(value)) throw new Unreadable(`${where}: '${cell}' is not a number`);
  return value;
}

function labelOf(cell, names, where) {
  const at = names ? names.indexOf(cell) : -1;
  if (at >= 0) return at;
  if (/^-?\d+$/.test(cell)) return Number(cell);
  throw new Unreadable(`${where}: the label '${cell}' is neither a number nor a class of the first line`);
}

export async function uploaded(files) {
  if (!files.length) throw new Unreadable("choose a file");
  const byEnd = (end) => files.filter((file) => file.name.toLowerCase().endsWith(end));
  const [tensors] = byEnd(".safetensors");
  if (tensors) return safetensorsBatch(tensors);
  const arrays = byEnd(".npy");
  if (arrays.length) return npyBatch(arrays);
  const [text] = byEnd(".json").concat(byEnd(".csv"), byEnd(".txt"), byEnd(".tsv"));
  if (text) return pasted(await text.text());
  throw new Unreadable("choose a .json, .csv or .safetensors file, or two .npy files: logits and labels");
}

// The tensors stay as they are; only the request in the header is written anew.
async function safetensorsBatch(file) {
  const size = new DataView(await file.slice(0, 8).arrayBuffer());
  const length = Number(size.getBigUint64(0, true));
  if (!(length > 1 && length <= file.size - 8)) throw new Unreadable(`${file.name} is no safetensors file`);
  let header;
  try {
    header = JSON.parse(await file.slice(8, 8 + length).text());
  } catch {
    throw new Unreadable(`${file.name} is no safetensors file: its header is not JSON`);
  }
  const { __metadata__: metadata = {}, ...entries } = header;
  if (!entries.logits || !entries.labels) {
    throw new Unreadable(`${file.name} holds ${Object.keys(entries).join(", ")}; logits and labels are needed`);
  }
  const { variants, settings, ...document } = JSON.parse(metadata.request || "{}");
  const write = (request) => {
    const written = { __metadata__: { ...metadata, request: JSON.stringify(request) }, ...entries };
    let text = new TextEncoder().encode(JSON.stringify(written));
    const padded = new Uint8Array(Math.ceil(text.length / 8) * 8).fill(32);
    padded.set(text);
    const prefix = new DataView(new ArrayBuffer(8));
    prefix.setBigUint64(0, BigInt(padded.length), true);
    return new Blob([prefix, padded, file.slice(8 + length)]);
  };
  return { document, type: SAFETENSORS, write, elements: entries.logits.shape.reduce((a, b) => a * b, 1), file };
}

async function npyBatch(files) {
  const arrays = await Promise.all(files.map(npy));
  const wide = arrays.filter((array) => array.shape.length > 1);
  const labels = arrays.find((array) => array !== wide[0]);
  if (arrays.length !== 2 || !wide.length) {
    throw new Unreadable("choose two .npy files: logits, with rows and classes, and labels");
  }
  const named = arrays.find((_, at) => /logit/i.test(files[at].name)) || wide[0];
  const other = named === wide[0] ? labels : arrays.find((array) => array !== named);
  const document = { logits: named.tensor, labels: other.tensor };
  return { document, type: JSON_TYPE, write: JSON.stringify, elements: named.shape.reduce((a, b) => a * b, 1) };
}

// numpy's format, as far as its bytes are what the service takes: little-endian, row-major.
async function npy(file) {
  const bytes = new Uint8Array(await file.arrayBuffer());
  const view = new DataView(bytes.buffer);
  if (bytes.length < 12 || String.fromCharCode(...bytes.slice(1, 6)) !== "NUMPY") {
    throw new Unreadable(`${file.name} is no .npy file`);
  }
  const start = bytes[6] === 1 ? 10 : 12;
  const length = bytes[6] === 1 ? view.getUint16(8, true) : view.getUint32(8, true);
  const header = new TextDecoder().decode(bytes.slice(start, start + length));
  const kind = /'descr':\s*'([^']+)'/.exec(header)?.[1];
  const shape = /'shape':\s*\(([^)]*)\)/.exec(header)?.[1].split(",").filter((part) => part.trim()).map(Number);
  if (!KNOWN[kind] || !shape || /'fortran_order':\s*True/.test(header)) {
    throw new Unreadable(`${file.name} holds ${kind || "something"}: save it little-endian and in C order, as numpy does`);
  }
  const data = bytes.subarray(start + length);
  return { shape, tensor: { dtype: KNOWN[kind], shape, data: base64(data) } };
}

function base64(bytes) {
  let text = "";
  for (let at = 0; at < bytes.length; at += 0x8000) {
    text += String.fromCharCode(...bytes.subarray(at, at + 0x8000));
  }
  return btoa(text);
}
