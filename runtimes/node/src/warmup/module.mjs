// Not a user's: see ../warmup.mjs.
export default undefined;
