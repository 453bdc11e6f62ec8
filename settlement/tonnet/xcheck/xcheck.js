// Fills the results into a file of cases: what the TVM of the reference node makes of our messages. See README.md.
import fs from 'node:fs';
import { createRequire } from 'node:module';
import { Address, Cell, beginCell, loadMessage } from '@ton/core';
import { Blockchain } from '@ton/sandbox';

const require = createRequire(import.meta.url);
const file = process.argv[2];
const data = JSON.parse(fs.readFileSync(file));
const config = Cell.fromBoc(Buffer.from(data.config, 'base64'))[0];
const nowhere = Address.parse('0:' + '0'.repeat(64));

// play runs one case on a fresh chain.
async function play(c) {
  const chain = await Blockchain.create({ config });
  chain.now = data.now;
  await chain.sendMessage({
    info: {
      type: 'internal', ihrDisabled: true, bounce: false, bounced: false, src: nowhere, dest: Address.parse(c.wallet),
      value: { coins: BigInt(c.fund) }, ihrFee: 0n, forwardFee: 0n, createdLt: 0n, createdAt: data.now,
    },
    body: new Cell(),
  });
  c.refused = [];
  for (const boc of c.messages) {
    try {
      await chain.sendMessage(loadMessage(Cell.fromBoc(Buffer.from(boc, 'base64'))[0].beginParse()));
      c.refused.push(false);
    } catch (e) {
      if (e.exitCode === undefined) throw e;
      c.refused.push(true);
    }
  }
  c.balances = [];
  for (const a of c.watch) {
    c.balances.push((await chain.getContract(Address.parse(a))).balance.toString());
  }
  console.log(c.name, 'wallet', c.balances.at(-1), 'refused', c.refused.join());
}

for (const c of data.cases) await play(c);

// The body that cashes a voucher, as the worker contract's wrapper builds it.
const v = data.voucher;
const payout = 0xa040ad28;
const signed = beginCell().storeUint(payout, 32).storeUint(v.query_id, 64).storeUint(v.tokens, 64).storeAddress(Address.parse(v.worker)).endCell();
const body = beginCell().storeUint(payout, 32).storeUint(v.query_id, 64).storeAddress(Address.parse(v.excess_to))
  .storeBuffer(Buffer.from(v.signature, 'base64')).storeRef(signed).endCell();
v.signed = signed.hash().toString('hex');
v.body = body.hash().toString('hex');

data.by = '@ton/sandbox ' + require('@ton/sandbox/package.json').version;
fs.writeFileSync(file, JSON.stringify(data, null, 1) + '\n');
