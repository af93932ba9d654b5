// The official OpenAI and Anthropic SDKs for Node.js, and Vercel's AI SDK: `node node.mjs CLIENT BASE`, in the folder
// where they are installed. A JSON line for each answer or error on standard output.
import { createRequire } from 'node:module';

const require = createRequire(`${process.cwd()}/`);
const [client, base] = process.argv.slice(2);
const key = process.env.REAL_KEY, wrongKey = 'sk-wrong', model = 'tiny';
const messages = [{ role: 'user', content: 'hi' }];
const tooLong = 'hello '.repeat(5000);
const fixed = { model, messages, temperature: 0, seed: 1, max_tokens: 16 };
const city = { type: 'object', properties: { city: { type: 'string' } }, required: ['city'] };

async function ask(name, call) {
  let line;
  try {
    let answer = await call();
    if (answer?.[Symbol.asyncIterator]) {
      const events = [];
      for await (const event of answer) events.push(event);
      answer = events;
    }
    line = { ask: name, answer };
  } catch (error) {
    const { status, statusCode, message, code, type, param, error: body, responseBody } = error;
    line = { ask: name, error: { class: error.name === 'Error' ? error.constructor.name : error.name,
      status: status ?? statusCode, message, code, type, param, body: body ?? responseBody } };
  }
  process.stdout.write(`${JSON.stringify(line)}\n`);
}

async function openai() {
  const OpenAI = require('openai').OpenAI;
  const made = (apiKey) => new OpenAI({ baseURL: base, apiKey, maxRetries: 0 });
  const chat = (changes) => made(key).chat.completions.create({ ...fixed, ...changes });
  const tools = [{ type: 'function', function: { name: 'get_weather', description: 'Weather', parameters: city } }];
  const calling = { tools, tool_choice: 'required', max_tokens: 60 };
  await ask('plain', () => chat());
  await ask('stream', () => chat({ stream: true }));
  await ask('tools', () => chat(calling));
  await ask('tools, stream', () => chat({ ...calling, stream: true }));
  await ask('stop', () => chat({ stop: ['o'] }));
  await ask('n=2', () => chat({ n: 2, temperature: 1 }));
  await ask('logprobs', () => chat({ logprobs: true, top_logprobs: 2 }));
  await ask('usage in the stream', () => chat({ stream: true, stream_options: { include_usage: true } }));
  const response = { model, input: 'hi', temperature: 0, max_output_tokens: 16 };
  await ask('responses', () => made(key).responses.create(response));
  await ask('responses, stream', () => made(key).responses.create({ ...response, stream: true }));
  await ask('models', async () => (await made(key).models.list()).data);
  await ask('unknown model', () => chat({ model: 'nope' }));
  await ask('prompt too long', () => chat({ messages: [{ role: 'user', content: tooLong }] }));
  await ask('bad parameter', () => chat({ temperature: -3 }));
  await ask('wrong key', () => made(wrongKey).chat.completions.create(fixed));
}

async function anthropic() {
  const Anthropic = require('@anthropic-ai/sdk').Anthropic;
  const made = (authToken) =>
    new Anthropic({ baseURL: base.replace(/\/v1$/, ''), authToken, apiKey: null, maxRetries: 0 });
  const { seed, ...asked } = fixed;
  const create = (changes) => made(key).messages.create({ ...asked, ...changes });
  const calling = { tools: [{ name: 'get_weather', description: 'Weather', input_schema: city }],
    tool_choice: { type: 'any' }, max_tokens: 60 };
  await ask('plain', () => create());
  await ask('stream', () => create({ stream: true }));
  await ask('tools', () => create(calling));
  await ask('stop', () => create({ stop_sequences: ['o'] }));
  await ask('unknown model', () => create({ model: 'nope' }));
  await ask('prompt too long', () => create({ messages: [{ role: 'user', content: tooLong }] }));
  await ask('bad parameter', () => create({ temperature: -3 }));
  await ask('wrong key', () => made(wrongKey).messages.create(asked));
}

async function aiSdk() {
  const { generateText, streamText, jsonSchema, tool } = require('ai');
  const { createOpenAICompatible } = require('@ai-sdk/openai-compatible');
  const made = (apiKey) => createOpenAICompatible({ name: 'tested', baseURL: base, apiKey, includeUsage: true });
  const asked = (changes) => ({ model: made(key)(model), prompt: 'hi', temperature: 0, seed: 1, maxOutputTokens: 16,
    maxRetries: 0, ...changes });
  const whole = async (changes) => {
    const { content, finishReason, usage, response } = await generateText(asked(changes));
    return { content, finishReason, usage, body: response.body, headers: Object.fromEntries(Object.keys(response.headers).map((name) => [name, true])) };
  };
  const streamed = (changes) => {
    const failed = [];
    const stream = streamText({ ...asked(changes), onError: ({ error }) => failed.push(error) }).fullStream;
    return (async function* () {
      for await (const { request, ...part } of stream) yield part;
      if (failed.length) throw failed[0];
    })();
  };
  const tools = { get_weather: tool({ description: 'Weather', inputSchema: jsonSchema(city) }) };
  const calling = { tools, toolChoice: 'required', maxOutputTokens: 60 };
  await ask('plain', () => whole());
  await ask('stream', () => streamed());
  await ask('tools', () => whole(calling));
  await ask('tools, stream', () => streamed(calling));
  await ask('stop', () => whole({ stopSequences: ['o'] }));
  await ask('unknown model', () => whole({ model: made(key)('nope') }));
  await ask('unknown model, stream', () => streamed({ model: made(key)('nope') }));
  await ask('prompt too long', () => whole({ prompt: tooLong }));
  await ask('bad parameter', () => whole({ temperature: -3 }));
  await ask('wrong key', () => whole({ model: made(wrongKey)(model) }));
}

await { openai, anthropic, 'ai-sdk': aiSdk }[client]();
