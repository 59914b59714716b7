// Quantities as the api room reads them.
export { parseQuantity, quantityMillis, quantityNumber } from '../api/quantity.ts'
