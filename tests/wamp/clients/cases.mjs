// What a client's program does, case by case: for each a JSON line with its name, and its trouble or "" for none.
const PATIENCE = 10_000; // ms for a case, on a busy machine

export async function report(cases) {
  for (const [name, act] of Object.entries(cases)) {
    let timer;
    const late = new Promise((_, reject) => {
      timer = setTimeout(() => reject(new Error("waited in vain")), PATIENCE);
    });
    let trouble = "";
    await Promise.race([act(), late]).catch((error) => (trouble = error?.stack ?? JSON.stringify(error)));
    clearTimeout(timer);
    console.log(JSON.stringify({ case: name, trouble }));
  }
  process.exit();
}

// Arrivals, in order, that can be waited for.
export class Queue {
  #arrived = [];
  #waiting = [];

  put(item) {
    const waiting = this.#waiting.shift();
    if (waiting) waiting(item);
    else this.#arrived.push(item);
  }

  get() {
    if (this.#arrived.length > 0) return Promise.resolve(this.#arrived.shift());
    return new Promise((resolve) => this.#waiting.push(resolve));
  }
}

// What a promise is rejected with.
export async function failure(promise) {
  let value;
  try {
    value = await promise;
  } catch (error) {
    return error;
  }
  throw new Error(`no failure but ${JSON.stringify(value)}`);
}

export const backwards = (text) => [...text].reverse().join("");
