/** The application's listeners. */

const NAMES = ["state", "broadcast", "error"];

/** Tell listeners what happens. A listener that fails is itself an error, and stops nobody else. */
export class Listeners {
  #lists = new Map(NAMES.map((name) => [name, new Set()]));

  /** Call `listener` with each; return the function that ends this. */
  add(name, listener) {
    const list = this.#lists.get(name);
    if (!list) throw new TypeError(`${name}: expected one of ${NAMES.join(", ")}`);
    if (typeof listener !== "function") throw new TypeError("listener: expected a function");
    list.add(listener);
    return () => list.delete(listener);
  }

  tell(name, what) {
    for (const listener of [...this.#lists.get(name)]) {
      const failed = (error) => {
        const problem = { kind: "listener", message: `a listener of ${name} failed`, error };
        if (name === "error") complain(problem);
        else this.report(problem);
      };
      try {
        Promise.resolve(listener(what)).catch(failed);
      } catch (error) {
        failed(error);
      }
    }
  }

  /** Tell what a person should see; where nobody listens, by the console. */
  report(problem) {
    if (this.#lists.get("error").size) this.tell("error", problem);
    else complain(problem);
  }
}

function complain({ kind, message, error }) {
  console.error(`nexus-client: ${kind}: ${message}`, ...(error ? [error] : []));
}
