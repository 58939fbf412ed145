// Not a user's: see ../warmup.mjs.
const { randomUUID } = require('node:crypto');

module.exports = async (req, res) => {
  console.log('warm');
  res.json({ id: randomUUID(), payload: JSON.parse(req.payload), variables: req.variables });
};
