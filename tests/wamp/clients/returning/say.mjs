// What the programs are told, and how they say what happens.
export const [port, way, ticket] = process.argv.slice(2);
export const url = `ws://127.0.0.1:${port}/ws`;
export const realm = "open";
export const topic = "com.example.news";

export const say = (what) => process.stdout.write(`${JSON.stringify(what)}\n`);

export function hear(word) {
  if (word.length < 100) say({ heard: word });
}
