// Requests to this service: with the key of this tab, if there is one, and errors as they are told.

const STORED = "xent-key";

// Where the service is, whatever prefix a proxy serves it under.
export const root = new URL(document.documentElement.dataset.root || "./", location.href);

export const key = {
  get: () => sessionStorage.getItem(STORED),
  set: (value) => sessionStorage.setItem(STORED, value),
  forget: () => sessionStorage.removeItem(STORED),
};

// An answer that is none: a problem document (RFC 9457), or whatever a proxy said.
export class Problem extends Error {
  constructor(status, document) {
    super(document.detail || document.title || `status ${status}`);
    this.status = status;
    this.title = document.title || `Status ${status}`;
    this.errors = document.errors || [];
  }
}

export async function request(path, options = {}) {
  const headers = new Headers(options.headers);
  if (key.get()) headers.set("authorization", `Bearer ${key.get()}`);
  let response;
  try {
    response = await fetch(new URL(path, root), { ...options, headers });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem(0, { title: "The service cannot be reached", detail: String(error.message) });
  }
  if (response.ok) return response;
  const body = await response.json().catch(() => ({}));
  throw new Problem(response.status, body);
}

export const needsKey = (error) =>
  error instanceof Problem && (error.status === 401 || error.status === 403);
